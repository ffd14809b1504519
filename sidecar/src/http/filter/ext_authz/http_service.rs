//! The question as an HTTP request without the body's rest, and the answer by its status: 200 passes, 5xx is a failure,
//! all else refuses. Source: Envoy's `RawHttpClientImpl`.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use super::question::{Question, Service, ServiceError};
use super::verdict::{Change, Changes, Denial, How, Verdict, changeable};
use crate::http::ask::{Answer, ask};
use crate::matcher::StringMatcher;
use crate::request::{RequestHead, Scheme};
use crate::stream::Protocol;

const TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// Source: `HttpService`.
pub struct HttpService {
    pub path_prefix: String,
    /// Instead of the request's own path.
    pub path_override: Option<String>,
    pub add: Vec<(HeaderName, HeaderValue)>,
    pub to_upstream: Vec<StringMatcher>,
    pub to_upstream_joined: Vec<StringMatcher>,
    /// `None`: all of them.
    pub to_client: Option<Vec<StringMatcher>>,
    pub to_client_on_success: Vec<StringMatcher>,
    pub to_metadata: Vec<StringMatcher>,
}

impl HttpService {
    /// # Errors
    /// No answer came.
    pub async fn ask(&self, service: &Service, question: &Question<'_>) -> Result<Verdict, ServiceError> {
        let body = question.body.map(|body| body.shown.clone()).unwrap_or_default();
        let head = self.head(service, question, &body)?;
        let answer = ask(question.exchange, &service.cluster, head, body, service.timeout).await?;
        Ok(self.verdict(&answer))
    }

    fn head(&self, service: &Service, question: &Question<'_>, body: &Bytes) -> Result<RequestHead, ServiceError> {
        let mut headers = HeaderMap::new();
        for (name, value) in question.headers(&service.visible) {
            let (Some(name), Ok(value)) = (changeable(&name), HeaderValue::from_bytes(&value)) else { continue };
            headers.insert(name, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.extend(self.add.iter().cloned());
        let path = match &self.path_override {
            Some(path) => path.clone(),
            None => format!("{}{}", self.path_prefix, question.head.path_and_query()),
        };
        Ok(RequestHead {
            method: question.head.method.clone(),
            scheme: Scheme::Http,
            authority: question.head.authority.clone(),
            path: Some(PathAndQuery::try_from(path).map_err(|_| ServiceError::Path)?),
            headers,
            protocol: Protocol::Http11,
            connect_protocol: None,
        })
    }

    fn verdict(&self, answer: &Answer) -> Verdict {
        let headers = &answer.headers;
        let metadata = picked(headers, &self.to_metadata, How::Set).into_iter().map(|change| {
            let text = String::from_utf8_lossy(change.value.as_bytes()).into_owned();
            (change.name.as_str().to_owned(), text.into())
        });
        match answer.status {
            500..=599 => Verdict::Error,
            200 => {
                let mut request = picked(headers, &self.to_upstream, How::Set);
                request.extend(picked(headers, &self.to_upstream_joined, How::Join));
                let removed = crate::request::joined(headers, TO_REMOVE).unwrap_or_default();
                let removed = String::from_utf8_lossy(&removed).into_owned();
                Verdict::Ok(Box::new(Changes {
                    request,
                    remove: removed.split(',').filter_map(|name| changeable(name.trim())).collect(),
                    response: picked(headers, &self.to_client_on_success, How::Add),
                    metadata: metadata.collect(),
                    ..Changes::default()
                }))
            }
            status => Verdict::Denied(Box::new(Denial {
                status,
                headers: self.to_client.as_ref().map_or_else(|| all(headers), |some| picked(headers, some, How::Add)),
                body: String::from_utf8_lossy(&answer.body).into_owned(),
                metadata: metadata.collect(),
            })),
        }
    }
}

fn picked(headers: &HeaderMap, matchers: &[StringMatcher], how: How) -> Vec<Change> {
    let wanted = |name: &HeaderName| matchers.iter().any(|matcher| matcher.matches(name.as_str()));
    let mut changes: Vec<Change> = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| wanted(name)) {
        // The first takes the old one's place, others follow.
        let again = how == How::Set && changes.iter().any(|change| change.name == name);
        changes.extend(Change::new(name.as_str(), value, if again { How::Add } else { how }));
    }
    changes
}

fn all(headers: &HeaderMap) -> Vec<Change> {
    headers.iter().filter_map(|(name, value)| Change::new(name.as_str(), value, How::Add)).collect()
}
