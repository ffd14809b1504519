//! The webhook's words: an `AdmissionReview` in, one out. Source: Kubernetes `admission.k8s.io/v1`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::decide::{Namespace, decide};
use crate::options::Options;
use crate::{Owner, Settings, inject};

const API_VERSION: &str = "admission.k8s.io/v1";

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
    /// The object as it is to be; `null` when it is to go.
    pub object: Value,
    /// As it was; `null` when it is new.
    pub before: Value,
    kind: String,
    operation: String,
}

impl Request {
    /// Reads a review.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(body: &[u8]) -> Result<Self, NoReview> {
        let mut review: Value = serde_json::from_slice(body).map_err(|error| NoReview(error.to_string()))?;
        // An answer must be of the review's own version: what has another is not asked of us.
        if review["kind"] != "AdmissionReview" || review["apiVersion"] != API_VERSION {
            return Err(NoReview(format!("it is none of {API_VERSION}")));
        }
        let request = review["request"].take();
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let (object, before, operation) = (request["object"].clone(), request["oldObject"].clone(), text("operation"));
        if text("uid").is_empty() || !(object.is_object() || operation == "DELETE") {
            return Err(NoReview("it has no request with a uid and an object".to_owned()));
        }
        let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let namespace = if text("namespace").is_empty() { own.to_owned() } else { text("namespace") };
        let kind = request["kind"]["kind"].as_str().or(object["kind"].as_str()).unwrap_or_default().to_owned();
        Ok(Self { uid: text("uid"), namespace, object, before, kind, operation })
    }

    /// Whether the object says nothing new: it goes, or only its metadata changes. An object that was let in while nobody
    /// looked must be able to go, finalizers and all.
    #[must_use]
    pub fn says_nothing_new(&self) -> bool {
        let content = |object: &Value| {
            let mut object = object.clone();
            for key in ["metadata", "status"] {
                object.as_object_mut().and_then(|fields| fields.remove(key));
            }
            object
        };
        let going = !self.object["metadata"]["deletionTimestamp"].is_null();
        self.object.is_null() || going || (self.before.is_object() && content(&self.object) == content(&self.before))
    }

    /// A sidecar can be put only into a pod that is being made.
    fn makes_pod(&self) -> bool {
        ["CREATE", ""].contains(&self.operation.as_str()) && ["Pod", ""].contains(&self.kind.as_str())
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
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
    }
}

/// Answers a review of a pod; what is none, or is there already, stays as it is.
#[must_use]
pub fn pod(request: &Request, namespace: Namespace<'_>, settings: &Settings) -> Value {
    if !request.makes_pod() {
        return request.allow(&[]);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn review(changes: &Value) -> Value {
        let mut request = json!({"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "namespace": "shop",
            "object": {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "a"}]}}});
        for (key, value) in changes.as_object().unwrap() {
            request[key] = value.clone();
        }
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": request})
    }

    #[test]
    fn only_new_pods_are_changed() {
        let cases = [
            (json!({}), true),
            (json!({"operation": "UPDATE"}), false),
            (json!({"operation": "DELETE", "object": null}), false),
            (json!({"kind": {"kind": "Deployment"}}), false),
        ];
        for (changes, changed) in cases {
            let request = Request::read(&serde_json::to_vec(&review(&changes)).unwrap()).unwrap();
            let response = pod(&request, Namespace::Chosen, &Settings::default())["response"].take();
            assert_eq!((&response["allowed"], response.get("patch").is_some()), (&json!(true), changed), "{changes}");
        }
    }

    #[test]
    fn what_is_no_review() {
        let mut other = review(&json!({}));
        other["apiVersion"] = json!("admission.k8s.io/v1beta1");
        let (number, nobody) = (review(&json!({"object": 7})), review(&json!({"uid": ""})));
        let all = [json!({}), json!([]), json!(null), other, number, nobody];
        for body in all {
            assert!(Request::read(&serde_json::to_vec(&body).unwrap()).is_err(), "{body}");
        }
    }

    #[test]
    fn what_says_nothing_new() {
        let bad = json!({"metadata": {"name": "x"}, "spec": {"a": 1}});
        let cases = [
            (json!({"object": bad, "oldObject": {"metadata": {"finalizers": ["f"]}, "spec": {"a": 1}}}), true),
            (json!({"object": bad, "oldObject": {"metadata": {}, "spec": {"a": 2}}}), false),
            (json!({"object": bad}), false),
            (json!({"object": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}}), true),
        ];
        for (changes, nothing) in cases {
            let request = Request::read(&serde_json::to_vec(&review(&changes)).unwrap()).unwrap();
            assert_eq!(request.says_nothing_new(), nothing, "{changes}");
        }
    }
}
