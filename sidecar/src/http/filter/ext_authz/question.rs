//! What a service is asked, and which of a request's headers it sees. The protocols put it into words.

use std::time::Duration;

use thiserror::Error;

use super::body::Begun;
use super::grpc::Grpc;
use super::http_service::HttpService;
use super::verdict::Verdict;
use crate::http::ask::AskError;
use crate::http::filter::Exchange;
use crate::matcher::StringMatcher;
use crate::request::RequestHead;

pub struct Service {
    pub protocol: Protocol,
    pub cluster: String,
    pub timeout: Duration,
    pub visible: Visible,
}

pub enum Protocol {
    Grpc(Grpc),
    Http(Box<HttpService>),
}

#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub exchange: &'a Exchange,
    pub head: &'a RequestHead,
    pub body: Option<&'a Begun>,
    pub extensions: &'a [(String, String)],
}

/// Why there is no verdict.
#[derive(Debug, Error)]
pub enum ServiceError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the path would be none")]
    Path,
    #[error("the call's status is {0:?}")]
    Status(Option<String>),
    #[error("the answer is no message of its kind: {0}")]
    Message(String),
}

/// Which headers the service sees. Source: `allowed_headers`, `disallowed_headers`.
pub struct Visible {
    /// `None`: all.
    pub allowed: Option<Vec<StringMatcher>>,
    pub disallowed: Vec<StringMatcher>,
}

impl Visible {
    pub fn sees(&self, name: &str) -> bool {
        let any = |matchers: &[StringMatcher]| matchers.iter().any(|matcher| matcher.matches(name));
        self.allowed.as_deref().is_none_or(any) && !any(&self.disallowed)
    }
}

impl Service {
    /// # Errors
    /// The service did not answer, or not as it should.
    pub async fn ask(&self, question: &Question<'_>) -> Result<Verdict, ServiceError> {
        match &self.protocol {
            Protocol::Grpc(grpc) => grpc.ask(self, question).await,
            Protocol::Http(http) => http.ask(self, question).await,
        }
    }
}

impl Question<'_> {
    /// The headers that the service sees, pseudo-headers too; several values of one are joined.
    pub fn headers(&self, visible: &Visible) -> Vec<(String, Vec<u8>)> {
        let pseudo = [":authority", ":method", ":path", ":scheme"].into_iter();
        let names = pseudo.chain(self.head.headers.keys().map(http::HeaderName::as_str));
        let mut all: Vec<(String, Vec<u8>)> = names
            .filter(|name| visible.sees(name))
            .filter_map(|name| Some((name.to_owned(), self.head.header(name)?.into_owned())))
            .collect();
        if let Some(body) = self.body {
            all.push(("x-envoy-auth-partial-body".to_owned(), body.partial.to_string().into_bytes()));
        }
        all
    }
}
