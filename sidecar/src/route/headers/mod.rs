//! Adding and removing headers, on requests going up and responses coming down.
//! Source: `HeaderValueOption`, `request_headers_to_remove`, Envoy's `HeaderParser`.

pub mod config;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::format::{Context, Format};
use crate::request::RequestHead;

/// Source: `HeaderValueOption.append_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    IfExistsOrAdd,
    AddIfAbsent,
    OverwriteIfExistsOrAdd,
    OverwriteIfExists,
}

pub struct AddHeader {
    pub name: HeaderName,
    pub value: Format,
    pub append: Append,
    pub keep_empty: bool,
}

/// One level's operations.
#[derive(Default)]
pub struct HeaderOps {
    pub add_request: Vec<AddHeader>,
    /// Host is changed as the authority, not as a header.
    pub request_authority: Option<Format>,
    pub remove_request: Vec<HeaderName>,
    pub add_response: Vec<AddHeader>,
    pub remove_response: Vec<HeaderName>,
}

impl HeaderOps {
    pub fn apply_request(&self, head: &mut RequestHead, stream: &crate::stream::Stream) {
        if self.add_request.is_empty() && self.remove_request.is_empty() && self.request_authority.is_none() {
            return;
        }
        for name in &self.remove_request {
            head.headers.remove(name);
        }
        if let Some(format) = &self.request_authority {
            let value = format.to_text_or_empty(&Context { stream, request: Some(head), ..Context::of(stream) });
            head.authority = HeaderValue::from_str(&value).ok().or(head.authority.take());
        }
        // Values see the head as it was before this level's additions.
        let values: Vec<_> = {
            let context = Context { request: Some(head), ..Context::of(stream) };
            self.add_request.iter().map(|add| add.value.to_text_or_empty(&context)).collect()
        };
        for (add, value) in self.add_request.iter().zip(values) {
            add.apply(&mut head.headers, value);
        }
    }

    pub fn apply_response(&self, headers: &mut HeaderMap, request: &RequestHead, stream: &crate::stream::Stream) {
        if self.add_response.is_empty() && self.remove_response.is_empty() {
            return;
        }
        for name in &self.remove_response {
            headers.remove(name);
        }
        let values: Vec<_> = {
            let context = Context { request: Some(request), response: Some(headers), ..Context::of(stream) };
            self.add_response.iter().map(|add| add.value.to_text_or_empty(&context)).collect()
        };
        for (add, value) in self.add_response.iter().zip(values) {
            add.apply(headers, value);
        }
    }
}

impl AddHeader {
    /// Adds the header with this value, as its action says.
    pub fn apply(&self, headers: &mut HeaderMap, value: String) {
        if value.is_empty() && !self.keep_empty {
            return;
        }
        let Ok(value) = HeaderValue::from_str(&value) else { return };
        let exists = headers.contains_key(&self.name);
        match self.append {
            Append::IfExistsOrAdd => {
                headers.append(self.name.clone(), value);
            }
            Append::AddIfAbsent if exists => {}
            Append::OverwriteIfExists if !exists => {}
            _ => {
                headers.insert(self.name.clone(), value);
            }
        }
    }
}
