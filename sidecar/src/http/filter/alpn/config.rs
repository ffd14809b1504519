//! `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig` → [`Alpn`].

use std::sync::Arc;

use xds::istio::alpn::FilterConfig;
use xds::istio::alpn::filter_config::Protocol;

use super::Alpn;
use crate::config::ConfigError;
use crate::upstream::alpn::{Names, Override};

/// Compiles the filter. Of two lists for one protocol the first holds, and an empty one changes nothing. What is said of
/// HTTP/1.0 is passed over, as it is never spoken upstream. Source: Istio's `AlpnFilterConfig`; Envoy's
/// `ClusterInfoImpl::upstreamHttpProtocol`.
///
/// # Errors
/// A protocol that is none of the three.
pub fn filter(name: &str, config: &FilterConfig) -> Result<Alpn, ConfigError> {
    let mut lists: [Option<Vec<Vec<u8>>>; 3] = Default::default();
    for (i, pair) in config.alpn_override.iter().enumerate() {
        let path = || format!("alpn_override[{i}].upstream_protocol");
        let [http10, http11, http2] = &mut lists;
        let list = match Protocol::try_from(pair.upstream_protocol) {
            Ok(Protocol::Http10) => http10,
            Ok(Protocol::Http11) => http11,
            Ok(Protocol::Http2) => http2,
            Err(_) => return Err(ConfigError::at(path(), format!("{} is no protocol", pair.upstream_protocol))),
        };
        list.get_or_insert_with(|| pair.alpn_override.iter().map(|name| name.clone().into_bytes()).collect());
    }
    let names = |list: Option<Vec<Vec<u8>>>| list.filter(|list| !list.is_empty()).map(Names::from);
    let [_, http1, http2] = lists;
    Ok(Alpn { name: name.to_owned(), names: Arc::new(Override { http1: names(http1), http2: names(http2) }) })
}

#[cfg(test)]
mod tests {
    use xds::istio::alpn::filter_config::AlpnOverride;

    use super::*;
    use crate::upstream::pool::Speaks;

    fn compiled(lists: &[(i32, &[&str])]) -> Result<Alpn, ConfigError> {
        let pair = |(protocol, names): &(i32, &[&str])| AlpnOverride {
            upstream_protocol: *protocol,
            alpn_override: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        filter("istio.alpn", &FilterConfig { alpn_override: lists.iter().map(pair).collect() })
    }

    fn check(lists: &[(i32, &[&str])], speaks: Speaks, expected: &str) {
        let alpn = compiled(lists).unwrap();
        let names = alpn.names.names(speaks).map(|names| names.join(&b","[..])).unwrap_or_default();
        assert_eq!(String::from_utf8(names).unwrap(), expected, "{lists:?} {speaks:?}");
    }

    #[test]
    fn names_by_protocol() {
        let istiod: &[(i32, &[&str])] = &[
            (0, &["istio-http/1.0", "istio", "http/1.0"]),
            (1, &["istio-http/1.1", "istio", "http/1.1"]),
            (2, &["istio-h2", "istio", "h2"]),
        ];
        check(istiod, Speaks::Http1, "istio-http/1.1,istio,http/1.1");
        check(istiod, Speaks::Http2, "istio-h2,istio,h2");
        check(istiod, Speaks::Negotiated, "istio-h2,istio,h2");
        check(&[(0, &["istio"])], Speaks::Http1, "");
        check(&[(1, &[]), (1, &["late"])], Speaks::Http1, "");
        check(&[(1, &["first"]), (1, &["late"])], Speaks::Http1, "first");
        check(&[], Speaks::Http2, "");
    }

    #[test]
    fn another_protocol_is_refused() {
        let refused = compiled(&[(1, &["a"]), (7, &["b"])]).err().map(|e| e.to_string());
        assert_eq!(refused.as_deref(), Some("alpn_override[1].upstream_protocol: 7 is no protocol"));
    }
}
