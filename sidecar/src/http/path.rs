//! One canonical form of the path, for policy, routing and upstream alike.
//! Source: Envoy's `path_utility.cc` and the URL canonicalizer behind it; RFC 3986, 6.2.2.

use crate::request::RequestHead;

/// What to do with `%2F`, `%2f`, `%5C` and `%5c` in a path.
/// Source: `HttpConnectionManager.path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    #[default]
    Keep,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// A listener's rules for paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    pub normalize: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathVerdict {
    Forward,
    /// 400, with these details.
    Reject(&'static str),
    /// 307 to this path.
    Redirect(String),
}

/// Rewrites the request's path by the rules.
pub fn apply(rules: &PathRules, head: &mut RequestHead) -> PathVerdict {
    let Some(path) = &head.path else { return PathVerdict::Forward };
    if *rules == PathRules::default() || !path.as_str().starts_with('/') {
        return PathVerdict::Forward;
    }
    match canonical(rules, path.path()) {
        Err(details) => PathVerdict::Reject(details),
        Ok(None) => PathVerdict::Forward,
        Ok(Some((new, redirect))) => {
            let full = match path.query() {
                Some(query) => format!("{new}?{query}"),
                None => new,
            };
            if redirect {
                PathVerdict::Redirect(full)
            } else if head.set_path(&full).is_err() {
                PathVerdict::Reject("path_normalization_failed")
            } else {
                PathVerdict::Forward
            }
        }
    }
}

/// The canonical path and whether to redirect there; `None` when nothing changes.
fn canonical(rules: &PathRules, path: &str) -> Result<Option<(String, bool)>, &'static str> {
    let mut redirect = false;
    let mut current = path.to_owned();
    match rules.escaped_slashes {
        EscapedSlashes::Keep => {}
        EscapedSlashes::Reject if has_escaped_slash(path) => return Err("path_normalization_failed"),
        EscapedSlashes::Reject => {}
        EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward => {
            current = unescape_slashes(path);
            redirect = rules.escaped_slashes == EscapedSlashes::UnescapeAndRedirect && current != path;
        }
    }
    if rules.normalize {
        current = remove_dot_segments(&unescape_unreserved(&current)?);
    }
    if rules.merge_slashes {
        current = merge_slashes(&current);
    }
    Ok((current != path).then_some((current, redirect)))
}

fn has_escaped_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(|w| w[0] == b'%' && is_slash_code(w[1], w[2]))
}

fn is_slash_code(high: u8, low: u8) -> bool {
    matches!((high, low.to_ascii_lowercase()), (b'2', b'f') | (b'5', b'c'))
}

fn unescape_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        match rest.as_bytes().get(at + 1..at + 3) {
            Some(&[high, low]) if is_slash_code(high, low) => {
                out.push(if high == b'2' { '/' } else { '\\' });
                rest = &rest[at + 3..];
            }
            _ => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Decodes the unreserved characters, turns `\` into `/`. An encoded NUL is refused.
fn unescape_unreserved(path: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        if c == '%' {
            let byte = rest.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match byte {
                Some(0) => return Err("path_normalization_failed"),
                Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => {
                    out.push(b as char);
                    rest = &rest[3..];
                    continue;
                }
                _ => {}
            }
        }
        out.push(if c == '\\' { '/' } else { c });
        rest = &rest[c.len_utf8()..];
    }
    Ok(out)
}

/// RFC 3986, 5.2.4, keeping empty segments.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    let mut trailing = false;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => trailing = last,
            ".." => {
                kept.pop();
                trailing = last;
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if trailing || kept.is_empty() {
        out.push('/');
    }
    out
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &PathRules, path: &str, expected: Result<&str, &'static str>) {
        let got = canonical(rules, path).map(|c| c.map_or(path.to_owned(), |(new, _)| new));
        assert_eq!(got.as_deref().map_err(|e| *e), expected, "{path} by {rules:?}");
    }

    #[test]
    fn normalised() {
        let rules = PathRules { normalize: true, ..Default::default() };
        for (path, expected) in [
            ("/a/./b/../c", "/a/c"),
            ("/../../etc", "/etc"),
            ("//x///y", "//x///y"),
            ("/a%2e%2e/b/%2E%2e/c", "/a../c"),
            ("/%7Euser/%41", "/~user/A"),
            ("/a\\b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a%2fb", "/a%2fb"),
            ("/", "/"),
        ] {
            check(&rules, path, Ok(expected));
            check(&rules, expected, Ok(expected));
        }
        check(&rules, "/a%00b", Err("path_normalization_failed"));
    }

    #[test]
    fn merged() {
        let rules = PathRules { normalize: true, merge_slashes: true, ..Default::default() };
        check(&rules, "//x///y/..//z", Ok("/x/z"));
        check(&rules, "/a//", Ok("/a/"));
    }

    #[test]
    fn escaped_slashes() {
        let rules = |escaped_slashes| PathRules { escaped_slashes, normalize: true, merge_slashes: false };
        check(&rules(EscapedSlashes::Reject), "/a%2Fb", Err("path_normalization_failed"));
        check(&rules(EscapedSlashes::Reject), "/a%5cb", Err("path_normalization_failed"));
        check(&rules(EscapedSlashes::Reject), "/a%20b", Ok("/a%20b"));
        check(&rules(EscapedSlashes::UnescapeAndForward), "/a%2f..%5Cb", Ok("/b"));
    }
}
