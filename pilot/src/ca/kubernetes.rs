//! The authority in a cluster: a Secret, ours or one that was given, followed while the pilot runs; and tokens that the API server
//! judges.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use api::Key;
use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use super::proof::Refused;
use super::rotate::{self, Step};
use super::state::{self, Files};
use super::token::{AUDIENCE, Tokens};
use super::{Authority, Ca, CaError};

/// A CA that was given: Istio's name and keys.
const GIVEN: &str = "cacerts";
/// One that was made here.
const OWN: &str = "outrigger-ca";
const CERTIFICATE: &str = "ca-cert.pem";
const TOKEN_KEY: &str = "token-key";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server does not let it be read or written.
    #[error("Secret {name} in namespace {namespace}: {error}")]
    Api {
        /// Which.
        name: &'static str,
        /// Where.
        namespace: String,
        /// Why.
        error: Box<kube::Error>,
    },
    /// It holds what is no authority.
    #[error("Secret {name}: {error}")]
    Content {
        /// Which.
        name: &'static str,
        /// Why.
        error: CaError,
    },
}

/// Opens the authority of a namespace, or makes one there, and follows it for as long as anyone listens. `others` are roots in PEM that
/// are trusted beside its own.
///
/// # Errors
/// When the Secret cannot be read or made, or holds what is no authority.
pub async fn watch(
    client: &Client,
    namespace: &str,
    others: watch::Receiver<String>,
) -> Result<Authority, SecretError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |name| move |error| SecretError::Api { name, namespace: namespace.to_owned(), error: Box::new(error) };
    let given = secrets.get_opt(GIVEN).await.map_err(failed(GIVEN))?;
    let (name, secret) = match given {
        Some(secret) => (GIVEN, secret),
        None => (OWN, own(&secrets).await.map_err(failed(OWN))?),
    };
    let ca = open(&secret, &others.borrow()).map_err(|error| SecretError::Content { name, error })?;
    let (sender, receiver) = watch::channel(Arc::new(ca));
    tokio::spawn(follow(secrets, secret, name, others, sender));
    Ok(receiver)
}

/// Reads our Secret, after making it if it is not there. Of two pilots that begin at once, one makes it.
async fn own(secrets: &Api<Secret>) -> Result<Secret, kube::Error> {
    if let Some(secret) = secrets.get_opt(OWN).await? {
        return Ok(secret);
    }
    let (key, root) = state::new_root().map_err(|error| kube::Error::Service(Box::new(error)))?;
    let random = Tokens::new_key().map_err(|error| kube::Error::Service(Box::new(error)))?;
    let data = [(state::KEY, key), (CERTIFICATE, root.clone()), (state::CHAIN, root.clone()), (state::ROOT, root)];
    let data = data.into_iter().chain([(TOKEN_KEY, random)]);
    let secret = Secret {
        metadata: ObjectMeta { name: Some(OWN.to_owned()), ..ObjectMeta::default() },
        data: Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.code == 409 => secrets.get(OWN).await,
        made => made,
    }
}

/// Takes a step of a rotation of the root that was made here. One that was given is rotated by who gave it.
///
/// # Errors
/// When the Secret is not there or cannot be written, or the step cannot be taken.
pub async fn rotate(client: &Client, namespace: &str, step: Step) -> Result<(), SecretError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |error| SecretError::Api { name: OWN, namespace: namespace.to_owned(), error: Box::new(error) };
    let mut secret = secrets.get(OWN).await.map_err(failed)?;
    let data = secret.data.take().unwrap_or_default();
    let text = |(name, bytes): (String, ByteString)| (name, String::from_utf8_lossy(&bytes.0).into_owned());
    let mut files: BTreeMap<String, String> = data.into_iter().map(text).collect();
    rotate::step(&mut files, CERTIFICATE, step).map_err(|error| SecretError::Content { name: OWN, error })?;
    secret.data = Some(files.into_iter().map(|(name, text)| (name, ByteString(text.into_bytes()))).collect());
    // The version that was read goes along: of two rotations at once, one is refused.
    secrets.replace(OWN, &PostParams::default(), &secret).await.map(drop).map_err(failed)
}

async fn follow(
    secrets: Api<Secret>,
    mut secret: Secret,
    name: &'static str,
    mut others: watch::Receiver<String>,
    sender: watch::Sender<Arc<Ca>>,
) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(secrets.clone(), config).default_backoff());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            changed = others.changed() => changed.ok().map(|()| Ok(Event::Apply(secret.clone()))),
            () = sender.closed() => None,
        };
        let opened = match event {
            Some(Ok(Event::Apply(seen) | Event::InitApply(seen))) => {
                let opened = open(&seen, &others.borrow_and_update()).map_err(|error| error.to_string());
                if opened.is_ok() {
                    secret = seen;
                }
                opened
            }
            Some(Ok(Event::Delete(_))) if name == OWN => {
                put_back(&secrets, &secret).await;
                continue;
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => Err(error.to_string()),
            None => return,
        };
        match opened {
            Ok(ca) if ca.same(&sender.borrow()) => {}
            Ok(ca) => {
                tracing::info!(secret = name, "the CA has changed");
                sender.send_replace(Arc::new(ca));
            }
            Err(error) => tracing::warn!(secret = name, error, "the CA stays as it was"),
        }
    }
}

/// Without it the next pilot would be of another mesh: nobody trusts a root that it makes.
async fn put_back(secrets: &Api<Secret>, last: &Secret) {
    let metadata = ObjectMeta { name: Some(OWN.to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, ..last.clone() };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => tracing::warn!(secret = OWN, "it was deleted, and is put back: the mesh lives by it"),
        // Another pilot was first.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        // With the namespace itself, it may go.
        Err(error) => tracing::warn!(secret = OWN, %error, "it was deleted, and cannot be put back"),
    }
}

fn open(secret: &Secret, others: &str) -> Result<Ca, CaError> {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let text = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    let need = |key: &'static str| text(key).ok_or(CaError::Missing(key));
    let issuer = need(CERTIFICATE)?;
    let mut chain = state::split(&issuer);
    let above = state::split(&text(state::CHAIN).unwrap_or_default());
    chain.extend(above.into_iter().filter(|one| one.trim() != issuer.trim()));
    let files = Files { key: need(state::KEY)?, chain, roots: need(state::ROOT)? };
    // Without a key of its own, the CA's decides; join tokens are for processes outside the cluster.
    let tokens = text(TOKEN_KEY).map_or_else(|| Tokens::derived(&files.key), |key| Tokens::from_text(&key));
    Ok(Ca::new(files, tokens?)?.trusting(others))
}

/// Tokens of service accounts, judged by the API server.
#[derive(Clone)]
pub struct TokenReviews(Api<TokenReview>);

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenReviews")
    }
}

impl TokenReviews {
    /// Asks this API server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Api::all(client))
    }

    /// Whose token it is, if it is meant for us.
    ///
    /// # Errors
    /// When the API server does not believe it, or cannot be asked.
    pub(super) async fn account(&self, token: &str) -> Result<Key, Refused> {
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let told = self.0.create(&PostParams::default(), &review).await;
        let status = told.map_err(|error| Refused::Unknown(error.to_string()))?.status.unwrap_or_default();
        let ours = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
        if status.authenticated != Some(true) || !ours {
            return Err(Refused::Bad(
                status.error.unwrap_or_else(|| "the API server does not know the token".to_owned()),
            ));
        }
        let user = status.user.and_then(|user| user.username).unwrap_or_default();
        let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        account
            .map(|(namespace, name)| Key::new(namespace, name))
            .ok_or_else(|| Refused::Bad(format!("{user} is no service account")))
    }
}
