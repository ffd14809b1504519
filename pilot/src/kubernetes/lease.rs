//! Which of several pilots writes: the holder of Lease `outrigger-leader`. Source: Kubernetes `coordination.k8s.io/v1`.

use std::time::Duration;

use daemon::Shutdown;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Cluster;

const NAME: &str = "outrigger-leader";
/// Whoever has not renewed for this long has lost it.
const DURATION: Duration = Duration::from_secs(15);
const RENEWAL: Duration = Duration::from_secs(4);

/// Tries to get the lease, and to keep it, until asked to stop. True while it is held. The task ends once the lease is given back.
pub(super) fn hold(cluster: Cluster, identity: String, shutdown: Shutdown) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(false);
    let leases: Api<Lease> = Api::namespaced(cluster.client, &cluster.namespace);
    let task = tokio::spawn(async move {
        loop {
            let held = match tokio::time::timeout(DURATION, attempt(&leases, &identity)).await {
                Ok(Ok(held)) => held,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease cannot be renewed");
                    false
                }
                Err(_) => false,
            };
            if sender.send_replace(held) != held {
                tracing::info!(held, "the lease changes hands");
            }
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                () = shutdown.asked() => break,
            }
        }
        sender.send_replace(false);
        if let Err(error) = give_back(&leases, &identity).await {
            tracing::warn!(%error, "the lease is not given back: others wait until it ends");
        }
    });
    (receiver, task)
}

/// The next pilot need not wait until it ends.
async fn give_back(leases: &Api<Lease>, identity: &str) -> Result<(), kube::Error> {
    let Some(mut lease) = leases.get_opt(NAME).await? else { return Ok(()) };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(identity)) else {
        return Ok(());
    };
    spec.holder_identity = None;
    beaten(leases.replace(NAME, &PostParams::default(), &lease).await).map(drop)
}

/// Takes the lease if it is free or ours already; whether it is ours then.
async fn attempt(leases: &Api<Lease>, identity: &str) -> Result<bool, kube::Error> {
    let now = Timestamp::now();
    let Some(mut lease) = leases.get_opt(NAME).await? else {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(held(LeaseSpec::default(), identity, now)),
        };
        return beaten(leases.create(&PostParams::default(), &lease).await);
    };
    let spec = lease.spec.take().unwrap_or_default();
    let ours = spec.holder_identity.as_deref() == Some(identity);
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    let age = renewed.and_then(|time| Duration::try_from(now.duration_since(time)).ok());
    let free = spec.holder_identity.as_deref().is_none_or(str::is_empty) || age.is_none_or(|age| age > DURATION);
    if !ours && !free {
        return Ok(false);
    }
    lease.spec = Some(held(spec, identity, now));
    // The version that was read goes along: of two that try at once, one is refused.
    beaten(leases.replace(NAME, &PostParams::default(), &lease).await)
}

fn held(before: LeaseSpec, identity: &str, now: Timestamp) -> LeaseSpec {
    let changes = before.holder_identity.as_deref() != Some(identity);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if changes { Some(MicroTime(now)) } else { before.acquire_time },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(changes)),
        ..before
    }
}

fn beaten<T>(written: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
