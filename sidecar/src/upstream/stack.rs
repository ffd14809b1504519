//! The tower stack of one request, outermost first. The cluster was drawn before: retries stay in it.

use std::sync::Arc;

use tower::Service;
use tower::ServiceBuilder;

use super::balance::BalanceLayer;
use super::call::Call;
use super::circuit_breaker::CircuitBreakerLayer;
use super::endpoint::Endpoint;
use super::hedge::HedgeLayer;
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
    if call.facts.hedge
        && let Some(policy) = retry
    {
        return ServiceBuilder::new()
            .layer(TimeoutLayer::new(Limit::WholeRequest))
            .layer(HedgeLayer::new(policy))
            .layer(BalanceLayer)
            .layer(CircuitBreakerLayer)
            .service(Endpoint)
            .call(call)
            .await;
    }
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(Limit::WholeRequest))
        .layer(RetryLayer::new(retry))
        .layer(TimeoutLayer::new(Limit::PerTry))
        .layer(TimeoutLayer::new(Limit::PerTryIdle))
        .layer(BalanceLayer)
        .layer(CircuitBreakerLayer)
        .service(Endpoint)
        .call(call)
        .await
}
