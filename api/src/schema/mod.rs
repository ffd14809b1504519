//! What an API server knows of our kinds and of SMI's: for each version the OpenAPI schema of its own shape, made from the
//! types that read it. `kubectl explain` shows it; the chart `outrigger-crds` holds it.
//!
//! It says shapes, which of them must be there, and what they mean. What is wrong within a text or a number is left to the
//! validating webhook, which is asked only about objects that fit the schema and tells it better. Unknown fields pass for
//! the same reason, which is also how fields in the place of another version of SMI are read.

mod status;
mod structural;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::smi::split::SplitV1alpha1;
use crate::smi::{HttpRouteGroup, TcpRoute, TrafficSplit, TrafficTarget, UdpRoute};
use crate::{Kind, MeshConfig, TrafficPolicy, Workload};

/// The schema of a version; `None` for kinds that others define.
///
/// Source: Kubernetes `apiextensions.k8s.io/v1.JSONSchemaProps`; SMI specification, traffic-split, traffic-specs and
/// traffic-access, each version.
#[must_use]
pub fn of(kind: Kind, version: &str) -> Option<Value> {
    let schema = match (kind, version) {
        (Kind::MeshConfig, _) => with_status(of_type::<MeshConfig>()),
        (Kind::TrafficPolicy, _) => with_status(of_type::<TrafficPolicy>()),
        (Kind::Workload, _) => with_status(of_type::<Workload>()),
        (Kind::TrafficSplit, "v1alpha1") => of_type::<SplitV1alpha1>(),
        (Kind::TrafficSplit, _) => of_type::<TrafficSplit>(),
        (Kind::TrafficTarget, "v1alpha1") => flat(of_type::<TrafficTarget>(), &[("rules", "specs")]),
        (Kind::TrafficTarget, _) => of_type::<TrafficTarget>(),
        (Kind::HttpRouteGroup, "v1alpha1" | "v1alpha2") => flat(of_type::<HttpRouteGroup>(), &[]),
        (Kind::HttpRouteGroup, _) => of_type::<HttpRouteGroup>(),
        (Kind::TcpRoute, "v1alpha4") => of_type::<TcpRoute>(),
        (Kind::TcpRoute, _) => without_fields(of_type::<TcpRoute>()),
        (Kind::UdpRoute, "v1alpha4") => of_type::<UdpRoute>(),
        (Kind::UdpRoute, _) => without_fields(of_type::<UdpRoute>()),
        _ => return None,
    };
    Some(schema)
}

/// The whole object, whose metadata the API server checks and explains by itself.
fn of_type<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = structural::of(settings.into_generator().into_root_schema_for::<T>().to_value());
    schema["properties"]["metadata"] = json!({"type": "object"});
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<Value> = required.filter(|name| *name != "metadata").cloned().collect();
    require(&mut schema, required);
    schema
}

/// A kind whose objects are told what the mesh thinks of them.
fn with_status(mut schema: Value) -> Value {
    schema["properties"]["status"] = status::schema();
    schema
}

/// The older form without `spec`, its fields at the top, some by another name. None is required, for `spec` is read too.
fn flat(schema: Value, names: &[(&str, &str)]) -> Value {
    let fields = schema["properties"]["spec"]["properties"].as_object().cloned().unwrap_or_default();
    let mut schema = without_fields(schema);
    for (name, field) in fields {
        let old = names.iter().find(|(new, _)| *new == name).map_or(name.as_str(), |(_, old)| old);
        schema["properties"][old] = field;
        schema["properties"][old]["nullable"] = true.into();
    }
    schema
}

/// The older form that has only a name.
fn without_fields(mut schema: Value) -> Value {
    schema["properties"] = json!({"metadata": {"type": "object"}});
    require(&mut schema, Vec::new());
    schema
}

fn require(schema: &mut Value, names: Vec<Value>) {
    let Some(fields) = schema.as_object_mut() else { return };
    match names.is_empty() {
        true => fields.remove("required"),
        false => fields.insert("required".to_owned(), names.into()),
    };
}
