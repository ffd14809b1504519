//! From a routed request to an upstream response: connections, pools, and the tower stack that
//! times out, retries, mirrors, balances and limits.

pub mod connect;
pub mod pool;
