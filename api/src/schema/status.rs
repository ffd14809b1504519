//! `status` of our kinds: the conditions that the pilot writes there.

use serde_json::{Value, json};

/// Source: Kubernetes `meta/v1.Condition`.
pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "description": "What the mesh thinks of the object. Written by the pilot.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": {
                "type": "array",
                "description": "`Accepted`: whether the object is used, and if not, why.",
                "items": condition(),
            },
        },
    })
}

fn condition() -> Value {
    json!({
        "type": "object",
        "required": ["type", "status"],
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "type": {"type": "string", "description": "`Accepted`."},
            "status": {"type": "string", "description": "`True`, `False` or `Unknown`."},
            "reason": {"type": "string", "description": "One word."},
            "message": {"type": "string", "description": "What is wrong, for people."},
            "observedGeneration": {"type": "integer", "description": "The `metadata.generation` that this is about."},
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When `status` changed last."},
        },
    })
}
