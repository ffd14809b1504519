//! What an authorization service said, and how its changes are made. How it said it is the protocols' matter.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::request::RequestHead;

#[derive(Debug)]
pub enum Verdict {
    Ok(Box<Changes>),
    Denied(Box<Denial>),
    /// It asks for what cannot be done.
    Invalid,
    /// It failed.
    Error,
}

/// The request passes, with these changes.
#[derive(Debug, Default)]
pub struct Changes {
    pub request: Vec<Change>,
    pub remove: Vec<HeaderName>,
    pub response: Vec<Change>,
    pub set_query: Vec<(String, String)>,
    pub remove_query: Vec<String>,
    pub metadata: Vec<(String, serde_json::Value)>,
}

#[derive(Debug)]
pub struct Denial {
    pub status: u16,
    pub headers: Vec<Change>,
    pub body: String,
    pub metadata: Vec<(String, serde_json::Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Set,
    Add,
    /// After a comma, where there is one already.
    Join,
    AddIfAbsent,
    SetIfThere,
}

/// What happens to one header.
#[derive(Clone, Debug)]
pub struct Change {
    pub name: HeaderName,
    pub value: HeaderValue,
    pub how: How,
}

impl Change {
    /// `None`: this can be no header, or is none that may be changed.
    pub fn new(name: &str, value: impl AsRef<[u8]>, how: How) -> Option<Self> {
        let (name, value) = (changeable(name)?, HeaderValue::from_bytes(value.as_ref()).ok()?);
        Some(Change { name, value, how })
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        let there = headers.contains_key(&self.name);
        match self.how {
            How::Add => {
                headers.append(&self.name, self.value.clone());
            }
            How::Join if there => self.join(headers),
            How::AddIfAbsent if there => {}
            How::SetIfThere | How::Join if !there => {}
            _ => {
                headers.insert(&self.name, self.value.clone());
            }
        }
    }

    fn join(&self, headers: &mut HeaderMap) {
        let mut all = crate::request::joined(headers, self.name.as_str()).unwrap_or_default().into_owned();
        all.push(b',');
        all.extend_from_slice(self.value.as_bytes());
        if let Ok(all) = HeaderValue::from_bytes(&all) {
            headers.insert(&self.name, all);
        }
    }
}

/// A header's name; those that say where a message begins, ends and goes are not the service's to change.
pub fn changeable(name: &str) -> Option<HeaderName> {
    let name = HeaderName::try_from(name).ok()?;
    let ours = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];
    (!ours.contains(&name.as_str())).then_some(name)
}

impl Changes {
    /// False: the query would be none.
    pub fn apply(&self, head: &mut RequestHead) -> bool {
        self.request.iter().for_each(|change| change.apply(&mut head.headers));
        for name in &self.remove {
            head.headers.remove(name);
        }
        if self.set_query.is_empty() && self.remove_query.is_empty() {
            return true;
        }
        let path = self.query(head.path_only(), head.query().unwrap_or(""));
        head.set_path(path).is_ok()
    }

    fn query(&self, path: &str, query: &str) -> String {
        let key = |pair: &str| pair.split_once('=').map_or(pair, |(key, _)| key).to_owned();
        let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
        pairs.retain(|pair| {
            let key = key(pair);
            !self.remove_query.contains(&key) && !self.set_query.iter().any(|(name, _)| *name == key)
        });
        let set = self.set_query.iter().filter(|(name, _)| !self.remove_query.contains(name));
        pairs.extend(set.map(|(name, value)| format!("{name}={value}")));
        if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        for (how, there, absent) in [
            (How::Set, "new", Some("new")),
            (How::Add, "old|new", Some("new")),
            (How::Join, "old,new", None),
            (How::AddIfAbsent, "old", Some("new")),
            (How::SetIfThere, "new", None),
        ] {
            let change = Change::new("X-A", "new", how).unwrap();
            let all = |mut headers: HeaderMap| {
                change.apply(&mut headers);
                let values: Vec<_> = headers.get_all("x-a").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
                (!values.is_empty()).then(|| values.join("|"))
            };
            let before = HeaderMap::from_iter([(HeaderName::from_static("x-a"), HeaderValue::from_static("old"))]);
            assert_eq!(all(before).as_deref(), Some(there), "{how:?}");
            assert_eq!(all(HeaderMap::new()).as_deref(), absent, "{how:?}");
        }
        for (name, value) in [("a b", "v"), (":path", "/"), ("Host", "other"), ("content-length", "3"), ("x", "a\nb")] {
            assert!(Change::new(name, value, How::Set).is_none(), "{name}");
        }
    }

    #[test]
    fn queries() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let changes = Changes {
            set_query: vec![pair("a", "9"), pair("d", "4")],
            remove_query: vec!["c".to_owned()],
            ..Changes::default()
        };
        assert_eq!(changes.query("/p", "a=1&b=2&c=3"), "/p?b=2&a=9&d=4");
        assert_eq!(Changes { remove_query: vec!["a".to_owned()], ..Changes::default() }.query("/p", "a=1"), "/p");
    }
}
