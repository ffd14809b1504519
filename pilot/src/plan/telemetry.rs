//! What proxies tell of requests.

use api::mesh_config::AccessLogFormat;

use super::{Flavour, names};
use crate::ir::{AccessLog, Telemetry, Tracing};
use crate::mesh::MeshSnapshot;

pub(super) fn of(mesh: &MeshSnapshot, flavour: Flavour) -> Telemetry {
    let settings = &mesh.settings;
    let tracing = settings.tracing.as_ref().map(|tracing| Tracing {
        cluster: names::ZIPKIN.to_owned(),
        host: format!("{}:{}", tracing.zipkin.host, tracing.zipkin.port),
        path: tracing.zipkin.path.clone(),
        sampling: tracing.sampling,
    });
    let log = &settings.access_log;
    let access_log =
        (log.format != AccessLogFormat::None).then(|| AccessLog { format: log.format, path: log.path.clone() });
    Telemetry { tracing, access_log, mesh_metrics: flavour == Flavour::Outrigger }
}
