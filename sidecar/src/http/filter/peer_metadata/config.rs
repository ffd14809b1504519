//! `io.istio.http.peer_metadata.Config` → [`PeerMetadata`], and what its headers say.

use xds::istio::peer_metadata::Config;
use xds::istio::peer_metadata::discovery_method::MethodSpecifier as Discovery;
use xds::istio::peer_metadata::propagation_method::MethodSpecifier as Propagation;

use super::{Directions, PeerMetadata};
use crate::observe::workload::Workload;
use crate::observe::workload::config::{read, workload};

/// Longer ones are not from a proxy of a mesh.
const LARGEST: usize = 16 << 10;

/// Compiles the filter. Ways of discovery that need more than headers are passed over: what they would tell
/// is only missing in metrics.
pub fn filter(name: &str, config: &Config) -> PeerMetadata {
    let reads = |methods: &[xds::istio::peer_metadata::DiscoveryMethod]| {
        methods.iter().any(|m| matches!(m.method_specifier, Some(Discovery::IstioHeaders(_))))
    };
    let writes = |methods: &[xds::istio::peer_metadata::PropagationMethod]| {
        methods.iter().any(|m| matches!(m.method_specifier, Some(Propagation::IstioHeaders(_))))
    };
    PeerMetadata {
        name: name.to_owned(),
        directions: Directions {
            discover_downstream: reads(&config.downstream_discovery),
            discover_upstream: reads(&config.upstream_discovery),
            tell_downstream: writes(&config.downstream_propagation),
            tell_upstream: writes(&config.upstream_propagation),
            skip_external: config
                .upstream_propagation
                .iter()
                .any(|m| matches!(&m.method_specifier, Some(Propagation::IstioHeaders(h)) if h.skip_external_clusters)),
        },
    }
}

/// Reads what another proxy says of itself; `None`: it can't be read.
pub fn decode(encoded: &str) -> Option<Workload> {
    if encoded.len() > LARGEST {
        return None;
    }
    read(encoded).map(|all| workload(&all))
}
