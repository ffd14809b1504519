//! What a caller that lists encodings gets: gzip, or the body as it is.
//! Source: Envoy's `CompressorFilter::chooseEncoding`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Gzip,
    /// `*` is what it likes most.
    Any,
    Identity,
    /// It takes nothing that can be made.
    None,
}

/// `possible`: gzip can be made of this response at all.
pub fn choose(accept: &str, possible: bool) -> Choice {
    let pairs: Vec<(&str, f32)> = accept.split(',').filter_map(pair).collect();
    // Named with a weight of zero it is refused, even where `*` stands.
    let possible = possible && !pairs.iter().any(|(name, weight)| *name == "gzip" && *weight == 0.0);
    if !possible {
        return Choice::None;
    }
    let mut best = (Choice::None, 0.0);
    for (name, weight) in pairs {
        let choice = match name {
            "gzip" => Choice::Gzip,
            "*" => Choice::Any,
            "identity" => Choice::Identity,
            _ => continue,
        };
        if weight > best.1 {
            best = (choice, weight);
        }
    }
    best.0
}

/// An encoding and its weight; one whose weight can't be read is passed over.
fn pair(item: &str) -> Option<(&str, f32)> {
    let (name, parameter) = item.split_once(';').unwrap_or((item, ""));
    let weight = match parameter.split_once('=') {
        Some((q, weight)) if q.trim().eq_ignore_ascii_case("q") => weight.trim().parse().ok()?,
        _ => 1.0,
    };
    Some((name.trim(), weight)).filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        for (accept, expected) in [
            ("gzip", Choice::Gzip),
            ("deflate, gzip;q=0.8", Choice::Gzip),
            ("*", Choice::Any),
            ("gzip;q=0", Choice::None),
            ("gzip;q=0, *", Choice::None),
            ("br, identity", Choice::Identity),
            ("gzip;q=0.2, identity;q=0.5", Choice::Identity),
            ("identity;q=0.2 , gzip ; q = 0.5", Choice::Gzip),
            ("gzip;q=x", Choice::None),
            ("br", Choice::None),
            ("", Choice::None),
            (",;q=1,", Choice::None),
        ] {
            assert_eq!(choose(accept, true), expected, "{accept}");
        }
        assert_eq!(choose("gzip", false), Choice::None);
    }
}
