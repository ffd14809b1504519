//! Access logs: one line a request, to a file or a standard stream. Workers only format; one thread
//! writes, so a slow or full disk never holds a request up: lines it can't take are dropped and counted.

pub mod config;
mod filter;
mod writer;

use crate::format::{Context, Format};

pub use filter::Filter;
pub use writer::{Destination, flush};

/// A compiled access log. Source: `envoy.config.accesslog.v3.AccessLog`.
pub struct AccessLog {
    /// `None`: all requests are told of.
    filter: Option<Filter>,
    shape: Shape,
    to: Destination,
}

/// What a line looks like. Source: `SubstitutionFormatString`.
pub struct Shape {
    line: Line,
    /// What is not known is left out. Source: `omit_empty_values`.
    omit_empty: bool,
}

enum Line {
    Text(Format),
    Json(Json),
}

/// A JSON format: objects and lists as they are, each string a format.
enum Json {
    Object(Vec<(String, Json)>),
    List(Vec<Json>),
    Value(Format),
    Fixed(serde_json::Value),
}

impl AccessLog {
    pub fn write(&self, context: &Context<'_>) {
        if self.filter.as_ref().is_some_and(|filter| !filter.passes(context)) {
            return;
        }
        self.to.send(self.shape.render(context));
    }
}

impl Shape {
    /// The line; JSON ends with a newline of its own.
    pub fn render(&self, context: &Context<'_>) -> String {
        let mut line = String::with_capacity(256);
        match &self.line {
            Line::Text(format) => format.write_or(&mut line, context, if self.omit_empty { "" } else { "-" }),
            Line::Json(json) => {
                line = json.render(context, self.omit_empty).to_string();
                line.push('\n');
            }
        }
        line
    }
}

impl Json {
    fn render(&self, context: &Context<'_>, omit_empty: bool) -> serde_json::Value {
        match self {
            Json::Object(fields) => {
                let rendered = fields.iter().map(|(k, v)| (k.clone(), v.render(context, omit_empty)));
                serde_json::Value::Object(rendered.filter(|(_, v)| !(omit_empty && v.is_null())).collect())
            }
            Json::List(items) => {
                serde_json::Value::Array(items.iter().map(|v| v.render(context, omit_empty)).collect())
            }
            Json::Value(format) => format.to_json(context, if omit_empty { "" } else { "-" }),
            Json::Fixed(value) => value.clone(),
        }
    }
}
