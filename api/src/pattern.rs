//! Regular expressions of objects: whether every proxy of the mesh can read one.
//!
//! Envoy compiles them with RE2, our sidecar with the `regex` crate. What only one of the two reads would be refused, or mean
//! something else, at half of the mesh, so that only what both read alike is good.

use regex::Regex;

/// The longest regular expression that is taken, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// Why a text is no regular expression for the mesh. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad regex `{regex}`: {why}")]
pub struct PatternError {
    /// The text.
    pub regex: String,
    /// What is wrong with it.
    pub why: String,
}

/// Compiles `regex` so that it must match a whole text.
///
/// # Errors
/// When it cannot be read, or not by every proxy.
pub fn compile(regex: &str) -> Result<Regex, PatternError> {
    let bad = |why: String| PatternError { regex: regex.chars().take(80).collect(), why };
    if regex.len() > MAX_LENGTH {
        return Err(bad(format!("longer than {MAX_LENGTH} bytes")));
    }
    if let Some(construct) = foreign(regex) {
        return Err(bad(format!("`{construct}` is not in RE2's syntax")));
    }
    // Alone first: within a group, an unbalanced `a)(b` would be balanced.
    Regex::new(regex).map_err(|error| bad(reason(&error)))?;
    Regex::new(&format!("^(?:{regex})$")).map_err(|error| bad(reason(&error)))
}

/// The last line of the crate's message, which says what is wrong; the others draw where.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "too large when compiled".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

/// The first construct that the `regex` crate reads and RE2 does not, or reads otherwise.
fn foreign(regex: &str) -> Option<String> {
    let mut chars = regex.char_indices().peekable();
    let mut class = 0_u32;
    while let Some((at, c)) = chars.next() {
        let rest = regex.get(at..).unwrap_or_default();
        match c {
            '\\' => {
                let (_, escaped) = chars.next()?;
                if matches!(escaped, 'u' | 'U' | '<' | '>') || rest.starts_with("\\b{") || rest.starts_with("\\B{") {
                    return Some(rest.chars().take(2).collect());
                }
            }
            '[' if class == 0 => {
                class = 1;
                for literal in ['^', ']'] {
                    if chars.peek().is_some_and(|(_, next)| *next == literal) {
                        chars.next();
                    }
                }
            }
            '[' if rest.starts_with("[:") => {
                let end = rest.find(":]")?;
                while chars.peek().is_some_and(|(next, _)| *next < at + end + 2) {
                    chars.next();
                }
            }
            '[' => return Some("[ within a class".to_owned()),
            ']' if class > 0 => class = 0,
            '&' | '-' | '~' if class > 0 && rest.chars().nth(1) == Some(c) => return Some(format!("{c}{c}")),
            '(' if class == 0 && rest.starts_with("(?") => {
                let flags = rest.get(2..).unwrap_or_default();
                let flags: String = flags.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
                if let Some(flag) = flags.chars().find(|f| matches!(f, 'x' | 'R' | 'u')) {
                    return Some(format!("(?{flag})"));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_proxy_reads() {
        let good = [
            "/public/.*",
            "",
            ".*",
            "[a-z]+",
            "[]a]",
            "[[:alpha:]-]",
            "(?i)abc",
            "(?P<n>a)",
            r"\d+\.\w",
            "[^/]+",
            "a{2,3}",
        ];
        for regex in good {
            assert!(compile(regex).is_ok(), "{regex}: {:?}", compile(regex));
        }
        let bad = [
            ("/a(", "unclosed group"),
            ("a)(b", "unopened group"),
            ("[a", "unclosed character class"),
            ("*a", "repetition operator missing expression"),
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(?x)a b", "(?x)"),
            ("[a-z&&[^b]]", "&&"),
            ("[[a]b]", "within a class"),
            (r"\u{61}", r"\u"),
            ("a{1000}{1000}{1000}", "too large"),
        ];
        for (regex, part) in bad {
            let error = compile(regex).unwrap_err().to_string();
            assert!(error.contains(part), "{regex}: {error}");
        }
    }

    #[test]
    fn whole_texts() {
        let regex = compile("/a|/b.*").unwrap();
        assert!(regex.is_match("/a") && regex.is_match("/bc") && !regex.is_match("/ac"));
    }
}
