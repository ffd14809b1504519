//! What requests read: all clusters and discovered route tables, as they were at one moment. Never
//! edited; `assemble` builds the next one and publishes it whole.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cluster::{Cluster, HostSet};
use crate::route::RouteTable;

/// A cluster with the hosts it had when the snapshot was made. Later hosts come by themselves.
#[derive(Clone)]
pub struct ClusterEntry {
    pub cluster: Arc<Cluster>,
    pub hosts: Arc<HostSet>,
}

/// An immutable configuration.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub clusters: HashMap<Arc<str>, ClusterEntry, foldhash::fast::RandomState>,
    pub routes: HashMap<Arc<str>, Arc<RouteTable>, foldhash::fast::RandomState>,
}
