//! Join tokens: how a process outside Kubernetes proves once who it is. A JWT of HS256, with a key in the state folder that
//! only the pilot and `outrigger token create` read.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::Key;
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::{CaError, state};

/// Whom a token is meant for.
pub const AUDIENCE: &str = "outrigger-ca";

const FILE: &str = "token-key";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Makes and verifies join tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: hmac::Key,
}

/// Why a token is not believed. Told to logs, never to who showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of ours.
    #[error("no join token")]
    Malformed,
    /// Its signature is not by this mesh's key.
    #[error("not signed by this mesh")]
    Signature,
    /// It is meant for others.
    #[error("meant for another audience")]
    Audience,
    /// It was good once.
    #[error("expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    ns: String,
    sa: String,
    iat: u64,
    exp: u64,
}

impl Tokens {
    /// Opens the key of a state folder, or makes one there; the pilot need not run, nor have run.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self, CaError> {
        state::make_folder(folder)?;
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let key = Self::new_key().map_err(|error| CaError::File { path: path.clone(), error })?;
                match state::create(folder, FILE, &key) {
                    Err(CaError::File { error, .. }) if error.kind() == ErrorKind::AlreadyExists => {}
                    made => made?,
                }
                std::fs::read_to_string(&path)
            }
            read => read,
        };
        Self::from_text(&text.map_err(|error| CaError::File { path, error })?)
    }

    /// A new key, as text.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn new_key() -> std::io::Result<String> {
        let mut secret = [0_u8; 32];
        rand::fill(&mut secret).map_err(|_| std::io::Error::other("no randomness"))?;
        Ok(BASE64.encode(secret))
    }

    /// With a key that was kept as text.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn from_text(text: &str) -> Result<Self, CaError> {
        let secret = BASE64.decode(text.trim()).ok().filter(|secret| secret.len() == 32);
        let secret = secret.ok_or(CaError::TokenKey)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    /// With a key that follows from another secret.
    #[allow(clippy::unnecessary_wraps)] // as its siblings
    pub(super) fn derived(secret: &str) -> Result<Self, CaError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let derived = hmac::sign(&key, b"outrigger join tokens");
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) })
    }

    /// A token with which one may prove for `ttl` to be a service account.
    #[must_use]
    pub fn create(&self, account: &Key, now: SystemTime, ttl: Duration) -> String {
        let now = seconds(now);
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            ns: account.namespace.clone(),
            sa: account.name.clone(),
            iat: now,
            exp: now + ttl.as_secs(),
        };
        // Strings and numbers always serialize.
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(tag))
    }

    /// Who a token says its owner is.
    ///
    /// # Errors
    /// When it cannot be believed.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Key, TokenError> {
        let (signed, tag) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| TokenError::Malformed);
        // The header is compared, not read: no other algorithm is ever meant.
        if decode(header)? != HEADER.as_bytes() {
            return Err(TokenError::Malformed);
        }
        hmac::verify(&self.key, signed.as_bytes(), &decode(tag)?).map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        if claims.aud != AUDIENCE {
            return Err(TokenError::Audience);
        }
        if seconds(now) >= claims.exp {
            return Err(TokenError::Expired);
        }
        Ok(Key::new(claims.ns, claims.sa))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
