//! `outrigger.v1.Workloads/Get`: what `outrigger bootstrap` must know of a workload, asked over the xDS address.

/// The path of the method.
pub const GET: &str = "/outrigger.v1.Workloads/Get";

/// Which workload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WorkloadRequest {
    /// Its namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// What a bootstrap holds of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WorkloadInfo {
    /// Where peers connect.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Who it is.
    #[prost(string, tag = "2")]
    pub service_account: String,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// The end of every Service's full name.
    #[prost(string, tag = "4")]
    pub cluster_domain: String,
    /// PEM of every root that is trusted.
    #[prost(string, tag = "5")]
    pub roots: String,
    /// The trust domain of all identities.
    #[prost(string, tag = "6")]
    pub trust_domain: String,
}

/// The asking side.
pub mod client {
    use tonic::codegen::http::uri::PathAndQuery;

    use super::{GET, WorkloadInfo, WorkloadRequest};

    /// Asks over a channel.
    ///
    /// # Errors
    /// The pilot's status: `NOT_FOUND` for a workload that does not exist.
    pub async fn get(
        channel: tonic::transport::Channel,
        request: WorkloadRequest,
    ) -> Result<WorkloadInfo, tonic::Status> {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::default();
        let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(GET), codec).await?;
        Ok(answer.into_inner())
    }
}

/// The answering side.
pub mod server {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use api::Key;
    use tonic::codegen::{Body, BoxFuture, Service, StdError, http};

    use super::{GET, WorkloadInfo, WorkloadRequest};
    use crate::ca::Authority;
    use crate::push::Latest;

    /// Answers from what is published.
    #[derive(Clone, Debug)]
    pub struct Workloads {
        latest: Latest,
        authority: Authority,
    }

    impl Workloads {
        /// Workloads of `latest`, with the roots of `authority`.
        #[must_use]
        pub const fn new(latest: Latest, authority: Authority) -> Self {
            Self { latest, authority }
        }

        fn get(&self, request: &WorkloadRequest) -> Result<WorkloadInfo, tonic::Status> {
            let published = self.latest.borrow().clone();
            let key = Key::new(request.namespace.clone(), request.name.clone());
            let workload = published.mesh.workloads.get(&key).ok_or_else(|| {
                tonic::Status::not_found(format!("no Workload {} in namespace {}", request.name, request.namespace))
            })?;
            Ok(WorkloadInfo {
                address: workload.address.to_string(),
                service_account: workload.account.name.clone(),
                labels: workload.labels.clone(),
                cluster_domain: published.mesh.settings.cluster_domain.clone(),
                roots: self.authority.borrow().roots().to_owned(),
                trust_domain: published.mesh.settings.trust_domain.to_string(),
            })
        }
    }

    struct Get(Workloads);

    impl tonic::server::UnaryService<WorkloadRequest> for Get {
        type Response = WorkloadInfo;
        type Future = BoxFuture<tonic::Response<WorkloadInfo>, tonic::Status>;

        fn call(&mut self, request: tonic::Request<WorkloadRequest>) -> Self::Future {
            let answer = self.0.get(request.get_ref()).map(tonic::Response::new);
            Box::pin(async move { answer })
        }
    }

    impl<B> Service<http::Request<B>> for Workloads
    where
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<B>) -> Self::Future {
            if request.uri().path() != GET {
                return Box::pin(async { Ok(tonic::Status::unimplemented("no such method").into_http()) });
            }
            let method = Get(self.clone());
            Box::pin(async move {
                let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                Ok(grpc.unary(method, request).await)
            })
        }
    }

    impl tonic::server::NamedService for Workloads {
        const NAME: &'static str = "outrigger.v1.Workloads";
    }
}
