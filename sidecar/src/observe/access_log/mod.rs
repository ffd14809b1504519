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
    line: Line,
    to: Destination,
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
        let mut line = String::with_capacity(256);
        match &self.line {
            Line::Text(format) => format.write(&mut line, context),
            Line::Json(json) => {
                line = json.render(context).to_string();
                line.push('\n');
            }
        }
        self.to.send(line);
    }
}

impl Json {
    fn render(&self, context: &Context<'_>) -> serde_json::Value {
        match self {
            Json::Object(fields) => {
                serde_json::Value::Object(fields.iter().map(|(k, v)| (k.clone(), v.render(context))).collect())
            }
            Json::List(items) => serde_json::Value::Array(items.iter().map(|v| v.render(context)).collect()),
            Json::Value(format) => format.to_json(context),
            Json::Fixed(value) => value.clone(),
        }
    }
}
