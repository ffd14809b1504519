//! The tower stack of one request, outermost first. The cluster was drawn before: retries stay in it.

use std::sync::Arc;

use tower::Service;
use tower::ServiceBuilder;

use super::balance::BalanceLayer;
use super::call::Call;
use super::circuit_breaker::CircuitBreakerLayer;
use super::endpoint::Endpoint;
use super::retry::RetryLayer;
use super::timeout::{Limit, TimeoutLayer};
use crate::body::ResponseBody;
use crate::error::ProxyError;
use crate::route::retry::RetryPolicy;

/// Sends a call upstream.
///
/// # Errors
/// No try got a response.
pub async fn send(call: Call, retry: Option<Arc<RetryPolicy>>) -> Result<http::Response<ResponseBody>, ProxyError> {
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(Limit::WholeRequest))
        .layer(RetryLayer::new(retry))
        .layer(TimeoutLayer::new(Limit::PerTry))
        .layer(BalanceLayer)
        .layer(CircuitBreakerLayer)
        .service(Endpoint)
        .call(call)
        .await
}
