//! New weights in a manifest's text, of which every other byte stays. Pure; not where the text is.

use std::sync::Arc;

use api::manifest::{Manifest, read};
use api::yaml::{Node, Position, Value};
use api::{Key, Kind, Object, Origin};

use super::weights::Weights;

/// Why a text cannot be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditError {
    #[error("there is no TrafficSplit {0}")]
    Missing(Key),
    #[error("its backends are others now")]
    OtherBackends,
    #[error("the weight in line {line}, column {column} is no plain number: write it as one", line = .0.line, column = .0.column)]
    NotPlain(Position),
    #[error("more than the weights would change: an anchor is used elsewhere, or the text is not as it seems")]
    MoreThanWeights,
}

/// The text with these weights.
pub(super) fn edit(text: &str, key: &Key, weights: &Weights) -> Result<String, EditError> {
    let before = parse(text);
    let (split, Origin::File(origin)) = find(&before, key).ok_or_else(|| EditError::Missing(key.clone()))? else {
        return Err(EditError::Missing(key.clone()));
    };
    let Object::TrafficSplit(split) = split else { return Err(EditError::Missing(key.clone())) };
    let services = split.spec.backends.iter().map(|backend| &backend.service);
    if !services.eq(weights.0.iter().map(|backend| &backend.service)) {
        return Err(EditError::OtherBackends);
    }
    let Some(Value::List(items)) =
        origin.root.get("spec").and_then(|spec| spec.get("backends")).map(|node| &node.value)
    else {
        return Err(EditError::OtherBackends);
    };
    let mut edited = text.to_owned();
    // From the end, so that what is before a change stays where it was.
    for (item, backend) in items.iter().zip(&weights.0).rev() {
        set(&mut edited, item, backend.weight)?;
    }
    if same_but_weights(before, parse(&edited), key, weights) { Ok(edited) } else { Err(EditError::MoreThanWeights) }
}

fn parse(text: &str) -> Manifest {
    read(&Arc::from(""), &Arc::from(text))
}

fn find<'a>(manifest: &'a Manifest, key: &Key) -> Option<&'a (Object, Origin)> {
    manifest.objects.iter().find(|(object, _)| object.kind() == Kind::TrafficSplit && object.key() == *key)
}

/// Sets the weight of one backend.
fn set(text: &mut String, item: &Node, weight: u64) -> Result<(), EditError> {
    if let Some(node) = item.get("weight") {
        let not_plain = || EditError::NotPlain(node.at);
        let from = offset(text, node.at).ok_or_else(not_plain)?;
        let length = scalar(text.get(from..).unwrap_or_default()).ok_or_else(not_plain)?;
        text.replace_range(from..from + length, &weight.to_string());
        return Ok(());
    }
    let Value::Map(entries) = &item.value else { return Err(EditError::NotPlain(item.at)) };
    let first = entries.first().ok_or(EditError::NotPlain(item.at))?;
    let at = offset(text, first.at).ok_or(EditError::NotPlain(first.at))?;
    let flow = text.get(..at).is_some_and(|before| before.trim_end().ends_with('{'));
    let name = if text.get(at..).is_some_and(|rest| rest.starts_with('"')) { "\"weight\"" } else { "weight" };
    let column = usize::try_from(first.at.column).unwrap_or(1);
    let after = if flow { ", ".to_owned() } else { format!("\n{}", " ".repeat(column - 1)) };
    text.insert_str(at, &format!("{name}: {weight}{after}"));
    Ok(())
}

/// Where a place is, in bytes.
fn offset(text: &str, at: Position) -> Option<usize> {
    let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
    let lines = text.split_inclusive('\n');
    let start: usize = lines.clone().take(line).map(str::len).sum();
    let within = lines.clone().nth(line)?;
    let end = within.char_indices().map(|(at, _)| at).chain([within.len()]).nth(column)?;
    Some(start + end)
}

/// How long the number or quantity is with which a text begins, with its quotes.
fn scalar(text: &str) -> Option<usize> {
    match text.chars().next()? {
        quote @ ('"' | '\'') => text.get(1..)?.find(quote).map(|end| end + 2),
        first if first.is_ascii_digit() => {
            Some(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(text.len()))
        }
        _ => None,
    }
}

/// Whether the second is the first with these weights.
fn same_but_weights(before: Manifest, after: Manifest, key: &Key, weights: &Weights) -> bool {
    let objects = |manifest: Manifest| manifest.objects.into_iter().map(|(object, _)| object);
    let wanted = objects(before).map(|object| match object {
        Object::TrafficSplit(mut split) if split.metadata.key() == *key => {
            for (backend, wanted) in split.spec.backends.iter_mut().zip(&weights.0) {
                backend.weight = wanted.weight;
            }
            Object::TrafficSplit(split)
        }
        other => other,
    });
    wanted.eq(objects(after))
}

#[cfg(test)]
mod tests {
    use super::super::weights::Backend;
    use super::*;

    const HEAD: &str = "# Ein Gerät\nkind: TrafficSplit # this one\nmetadata: {name: s}\n";

    fn check(version: &str, before: &str, after: Result<&str, EditError>) {
        let text = |spec: &str| {
            format!(
                "kind: Service\napiVersion: v1\nmetadata: {{name: a}}\n---\napiVersion: split.smi-spec.io/{version}\n{HEAD}{spec}"
            )
        };
        let weights = [("a", 70), ("b", 30)].map(|(service, weight)| Backend { service: service.to_owned(), weight });
        let edited = edit(&text(before), &Key::new("default", "s"), &Weights(weights.to_vec()));
        assert_eq!(edited, after.map(text), "{before}");
    }

    #[test]
    fn all_other_bytes_stay() {
        let cases = [
            (
                "spec:\n  service: r\n  backends:\n  - service: a # ü\n    weight:   100   # all\n  - {service: b, weight: 0}\n",
                "spec:\n  service: r\n  backends:\n  - service: a # ü\n    weight:   70   # all\n  - {service: b, weight: 30}\n",
            ),
            (
                "spec: {service: \"rü\", backends: [{weight: 1, service: a}, {service: b}]}",
                "spec: {service: \"rü\", backends: [{weight: 70, service: a}, {weight: 30, service: b}]}",
            ),
            (
                "spec:\n  backends:\n    - service: a\n    -   service: b\n  service: r\r\n---\nkind: Foreign\napiVersion: x/v1\n",
                "spec:\n  backends:\n    - weight: 70\n      service: a\n    -   weight: 30\n        service: b\n  service: r\r\n---\nkind: Foreign\napiVersion: x/v1\n",
            ),
            (
                "spec: {\"service\": \"r\", \"backends\": [{\"service\": \"a\", \"weight\": 1}, {\"service\": \"b\"}]}\n",
                "spec: {\"service\": \"r\", \"backends\": [{\"service\": \"a\", \"weight\": 70}, {\"weight\": 30, \"service\": \"b\"}]}\n",
            ),
        ];
        for (before, after) in cases {
            check("v1alpha4", before, Ok(after));
        }
        let quantities = |a: &str, b: &str| {
            format!("spec: {{service: r, backends: [{{service: a, weight: {a}}}, {{service: b, weight: {b}}}]}}\n")
        };
        check("v1alpha1", &quantities("500m", "\"0.5\""), Ok(&quantities("70", "30")));
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        let shared = "spec:\n  service: r\n  backends:\n  - {service: a, weight: &w 5}\n  - {service: b, weight: *w}\n";
        check("v1alpha4", shared, Err(EditError::NotPlain(Position { line: 13, column: 26 })));
        let elsewhere = "spec:\n  service: r\n  backends: [{service: a, weight: &w 5}, {service: b, weight: 1}]\n---\n\
            kind: TrafficSplit\napiVersion: split.smi-spec.io/v1alpha4\nmetadata: {name: s}\nspec: {service: r, backends: [{service: a}]}\n";
        check("v1alpha4", elsewhere, Err(EditError::MoreThanWeights));
        check("v1alpha4", "spec: {service: r, backends: [{service: b, weight: 1}]}", Err(EditError::OtherBackends));
        check("v1alpha4", "spec: 3", Err(EditError::Missing(Key::new("default", "s"))));
    }
}
