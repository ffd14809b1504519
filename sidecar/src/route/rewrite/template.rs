//! Path templates: `/users/{id}/**` matches and names parts of a path, `/u/{id}` puts them elsewhere.
//! Source: `envoy.extensions.path.{match,rewrite}.uri_template.v3`.

use regex::Regex;

use crate::route::PathMatch;

/// The regex that a template stands for. `*` is one segment, `**` any number, at the end only.
///
/// # Errors
/// Why the template is none.
pub fn compile(template: &str) -> Result<Regex, String> {
    let mut pattern = String::from("^");
    let mut rest = template;
    if !template.starts_with('/') {
        return Err(format!("invalid path template '{template}': it must begin with /"));
    }
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("**") {
            pattern.push_str(".*");
            rest = &rest[2..];
        } else if c == '*' {
            pattern.push_str("[^/]+");
            rest = &rest[1..];
        } else if c == '{' {
            let end = rest.find('}').ok_or_else(|| format!("invalid path template '{template}': missing }}"))?;
            let (name, glob) = rest[1..end].split_once('=').unwrap_or((&rest[1..end], "*"));
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("invalid path template '{template}': '{name}' is no name of a variable"));
            }
            let inner = glob.replace("**", "\u{0}").split('*').map(regex::escape).collect::<Vec<_>>().join("[^/]+");
            pattern.push_str(&format!("(?P<{name}>{})", inner.replace('\u{0}', ".*")));
            rest = &rest[end + 1..];
        } else {
            pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            rest = &rest[c.len_utf8()..];
        }
    }
    pattern.push('$');
    Regex::new(&pattern).map_err(|e| format!("invalid path template '{template}': {e}"))
}

enum Piece {
    Text(String),
    Variable(String),
}

/// A compiled rewrite.
pub struct TemplateRewrite {
    pieces: Vec<Piece>,
}

impl TemplateRewrite {
    /// Compiles a rewrite for paths that `matched` matches.
    ///
    /// # Errors
    /// It names a variable that the match does not have, or the route does not match by a template.
    pub fn parse(template: &str, matched: &PathMatch) -> Result<Self, String> {
        let PathMatch::Template(regex) = matched else {
            return Err("a path template rewrite needs a path template match".to_owned());
        };
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some(at) = rest.find('{') {
            let end = rest[at..].find('}').ok_or_else(|| format!("invalid rewrite '{template}': missing }}"))? + at;
            let name = &rest[at + 1..end];
            if !regex.capture_names().flatten().any(|known| known == name) {
                return Err(format!("invalid rewrite '{template}': the match has no variable '{name}'"));
            }
            pieces.push(Piece::Text(rest[..at].to_owned()));
            pieces.push(Piece::Variable(name.to_owned()));
            rest = &rest[end + 1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(TemplateRewrite { pieces })
    }

    pub fn apply(&self, matched: &PathMatch, path: &str) -> Option<String> {
        let PathMatch::Template(regex) = matched else { return None };
        let captures = regex.captures(path)?;
        let parts = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable(name) => captures.name(name).map_or("", |m| m.as_str()),
        });
        Some(parts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let check = |template: &str, rewrite: &str, path: &str, expected: Option<&str>| {
            let matched = PathMatch::Template(compile(template).unwrap());
            let got = TemplateRewrite::parse(rewrite, &matched).unwrap().apply(&matched, path);
            assert_eq!(got.as_deref(), expected, "{template} {path}");
        };
        check("/users/{id}", "/u/{id}", "/users/7", Some("/u/7"));
        check("/users/{id}", "/u/{id}", "/users/7/x", None);
        check("/a/{rest=**}", "/{rest}", "/a/b/c", Some("/b/c"));
        check("/{one}/{two=x/*}", "/{two}/{one}", "/1/x/2", Some("/x/2/1"));
        check("/a/*/c", "/d", "/a/b/c", Some("/d"));
        assert!(compile("users").is_err() && compile("/{").is_err());
    }
}
