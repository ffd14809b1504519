//! The webhook's words: an `AdmissionReview` in, one out. Source: Kubernetes `admission.k8s.io/v1`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::decide::{Namespace, decide};
use crate::options::Options;
use crate::{Owner, Settings, inject};

/// What comes is no review: it is answered with 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no AdmissionReview: {0}")]
pub struct NoReview(String);

/// What is asked in a review.
#[derive(Clone, Debug)]
pub struct Request {
    uid: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object.
    pub object: Value,
}

impl Request {
    /// Reads a review.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(body: &[u8]) -> Result<Self, NoReview> {
        let mut review: Value = serde_json::from_slice(body).map_err(|error| NoReview(error.to_string()))?;
        if review["kind"] != "AdmissionReview" {
            return Err(NoReview("its kind is another".to_owned()));
        }
        let request = review["request"].take();
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let object = request["object"].clone();
        if text("uid").is_empty() || !object.is_object() {
            return Err(NoReview("it has no request with a uid and an object".to_owned()));
        }
        let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let namespace = if text("namespace").is_empty() { own.to_owned() } else { text("namespace") };
        Ok(Self { uid: text("uid"), namespace, object })
    }

    /// The object may come in as it is.
    #[must_use]
    pub fn allow(&self, warnings: &[String]) -> Value {
        self.answer(json!({"uid": self.uid, "allowed": true}), warnings)
    }

    /// It may not.
    #[must_use]
    pub fn deny(&self, message: &str) -> Value {
        let status = json!({"code": 422, "reason": "Invalid", "message": message});
        self.answer(json!({"uid": self.uid, "allowed": false, "status": status}), &[])
    }

    fn patch(&self, after: &Value, warnings: &[String]) -> Value {
        let patch = json_patch::diff(&self.object, after);
        // A patch is made of texts and values that were JSON.
        let patch = BASE64.encode(serde_json::to_vec(&patch).unwrap_or_default());
        self.answer(json!({"uid": self.uid, "allowed": true, "patchType": "JSONPatch", "patch": patch}), warnings)
    }

    fn answer(&self, mut response: Value, warnings: &[String]) -> Value {
        if !warnings.is_empty() {
            response["warnings"] = json!(warnings);
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

/// Answers a review of a pod.
#[must_use]
pub fn pod(request: &Request, namespace: Namespace<'_>, settings: &Settings) -> Value {
    let decision = match decide(&request.object, &request.namespace, namespace, settings) {
        Ok(decision) => decision,
        Err(message) => return request.deny(&message),
    };
    if !decision.injects() {
        return request.allow(&[]);
    }
    let mut after = request.object.clone();
    match inject(&mut after, &Owner::of(&request.object), settings) {
        Ok(()) => request.patch(&after, &warnings(&request.object)),
        Err(error) => request.deny(&error.to_string()),
    }
}

fn warnings(pod: &Value) -> Vec<String> {
    let annotations = crate::inject::texts(&pod["metadata"]["annotations"]);
    let unknown = Options::unknown(&annotations);
    let mut warnings: Vec<String> = unknown.iter().map(|name| format!("annotation {name} is not known")).collect();
    let users = std::iter::once(&pod["spec"]).chain(pod["spec"]["containers"].as_array().into_iter().flatten());
    if users.into_iter().any(|of| of["securityContext"]["runAsUser"] == 1337) {
        warnings
            .push("a container runs as user 1337, as the sidecar does: its connections are not captured".to_owned());
    }
    warnings
}
