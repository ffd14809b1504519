//! From a routed request to an upstream response: connections, pools, and the tower stack that
//! times out, retries, balances and limits.

pub mod alpn;
pub mod balance;
pub mod call;
pub mod circuit_breaker;
pub mod connect;
pub mod endpoint;
pub mod hedge;
pub mod local_cluster;
pub mod pool;
pub mod resolve;
pub mod retry;
pub mod stack;
pub mod timeout;

pub use local_cluster::{LocalCluster, LocalHost};
