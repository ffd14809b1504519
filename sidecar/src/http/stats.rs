//! A connection manager's counters, resolved once.
//! Source: Envoy's "HTTP connection manager statistics".

use crate::observe::stats::{Counter, Gauge, Histogram, Scope};
use crate::stream::Stream;

macro_rules! manager_stats {
    ($($field:ident: $kind:ident = $name:literal;)*) => {
        /// Handles to `http.STAT_PREFIX.*`.
        pub struct ManagerStats {
            $(pub $field: manager_stats!(@type $kind),)*
            rq_xx: [Counter; 5],
        }

        impl ManagerStats {
            pub fn new(stat_prefix: &str) -> Self {
                let scope = Scope::http(stat_prefix);
                ManagerStats {
                    $($field: scope.$kind($name),)*
                    rq_xx: [1, 2, 3, 4, 5].map(|class: u16| {
                        scope.tagged_counter(
                            &format!("downstream_rq_{class}xx"),
                            "downstream_rq_xx",
                            "envoy_response_code_class",
                            &class.to_string(),
                        )
                    }),
                }
            }
        }
    };
    (@type counter) => { Counter };
    (@type gauge) => { Gauge };
    (@type histogram) => { Histogram };
}

manager_stats! {
    cx_total: counter = "downstream_cx_total";
    cx_active: gauge = "downstream_cx_active";
    cx_ssl_total: counter = "downstream_cx_ssl_total";
    cx_http1_total: counter = "downstream_cx_http1_total";
    cx_http1_active: gauge = "downstream_cx_http1_active";
    cx_http2_total: counter = "downstream_cx_http2_total";
    cx_http2_active: gauge = "downstream_cx_http2_active";
    cx_upgrades_total: counter = "downstream_cx_upgrades_total";
    cx_upgrades_active: gauge = "downstream_cx_upgrades_active";
    cx_destroy: counter = "downstream_cx_destroy";
    cx_length_ms: histogram = "downstream_cx_length_ms";
    cx_rx_bytes: counter = "downstream_cx_rx_bytes_total";
    cx_tx_bytes: counter = "downstream_cx_tx_bytes_total";
    cx_idle_timeout: counter = "downstream_cx_idle_timeout";
    cx_max_duration_reached: counter = "downstream_cx_max_duration_reached";
    cx_max_requests_reached: counter = "downstream_cx_max_requests_reached";
    cx_protocol_error: counter = "downstream_cx_protocol_error";
    cx_drain_close: counter = "downstream_cx_drain_close";
    rq_total: counter = "downstream_rq_total";
    rq_http1_total: counter = "downstream_rq_http1_total";
    rq_http2_total: counter = "downstream_rq_http2_total";
    rq_active: gauge = "downstream_rq_active";
    rq_completed: counter = "downstream_rq_completed";
    rq_rx_reset: counter = "downstream_rq_rx_reset";
    rq_tx_reset: counter = "downstream_rq_tx_reset";
    rq_too_large: counter = "downstream_rq_too_large";
    rq_idle_timeout: counter = "downstream_rq_idle_timeout";
    rq_timeout: counter = "downstream_rq_timeout";
    rq_header_timeout: counter = "downstream_rq_header_timeout";
    rq_max_duration_reached: counter = "downstream_rq_max_duration_reached";
    rq_ws_on_non_ws_route: counter = "downstream_rq_ws_on_non_ws_route";
    rq_time: histogram = "downstream_rq_time";
    no_route: counter = "no_route";
    no_cluster: counter = "no_cluster";
    rq_direct_response: counter = "rq_direct_response";
    rq_redirect: counter = "rq_redirect";
    router_rq_total: counter = "rq_total";
    rq_reset_after_downstream_response_started: counter = "rq_reset_after_downstream_response_started";
    internal_redirect_too_many: counter = "passthrough_internal_redirect_too_many_redirects";
    internal_redirect_unsafe_scheme: counter = "passthrough_internal_redirect_unsafe_scheme";
    internal_redirect_no_route: counter = "passthrough_internal_redirect_no_route";
    internal_redirect_bad_location: counter = "passthrough_internal_redirect_bad_location";
}

impl ManagerStats {
    /// Counts a request that is over; `responded` says whether the caller got a head.
    pub fn count_response(&self, stream: &Stream, responded: bool) {
        if responded {
            self.rq_completed.inc();
            let class = stream.response_code.get().unwrap_or(0) / 100;
            if let Some(counter) = self.rq_xx.get(usize::from(class).wrapping_sub(1)) {
                counter.inc();
            }
        } else {
            self.rq_rx_reset.inc();
        }
        let end = stream.end.get().unwrap_or_else(std::time::Instant::now);
        self.rq_time.record(end.duration_since(stream.start).as_millis() as u64);
    }
}
