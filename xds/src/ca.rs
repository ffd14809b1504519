//! The CSR API: `istio.v1.auth.IstioCertificateService`, client and server.
//!
//! Carries messages only; who may have which certificate is the CA's decision.
//!
//! Source: `security/v1alpha1/ca.proto` in istio/api. Written in the shape of tonic's generated code.

use envoy_types::pb::google::protobuf::Struct;

/// The service's full name, as in the request path.
pub const SERVICE_NAME: &str = "istio.v1.auth.IstioCertificateService";
/// The path of its one method.
pub const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// PEM. Only the public key counts.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Wanted lifetime in seconds; the CA may give less.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IstioCertificateResponse {
    /// PEM, one certificate each: the leaf first, the root last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

pub mod client {
    use tonic::codegen::{Body, Bytes, GrpcMethod, StdError, http};

    use super::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse, SERVICE_NAME};

    #[derive(Clone, Debug)]
    pub struct IstioCertificateServiceClient<T> {
        inner: tonic::client::Grpc<T>,
    }

    impl<T> IstioCertificateServiceClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + Send,
    {
        pub fn new(inner: T) -> Self {
            Self { inner: tonic::client::Grpc::new(inner) }
        }

        pub fn with_origin(inner: T, origin: http::Uri) -> Self {
            Self { inner: tonic::client::Grpc::with_origin(inner, origin) }
        }

        /// Asks for a certificate for the key in the request's CSR.
        ///
        /// # Errors
        /// The CA's status: `UNAUTHENTICATED` when it does not believe who is asking.
        pub async fn create_certificate(
            &mut self,
            request: impl tonic::IntoRequest<IstioCertificateRequest>,
        ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|error| tonic::Status::unavailable(format!("CA not reachable: {}", error.into())))?;
            let mut request = request.into_request();
            request.extensions_mut().insert(GrpcMethod::new(SERVICE_NAME, "CreateCertificate"));
            let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
            self.inner.unary(request, path, tonic_prost::ProstCodec::default()).await
        }
    }
}

pub mod server {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tonic::codegen::{Body, BoxFuture, Service, StdError, async_trait, http};

    use super::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse, SERVICE_NAME};

    #[async_trait]
    pub trait IstioCertificateService: Send + Sync + 'static {
        /// Signs the CSR's key for the identity that the caller has proven.
        async fn create_certificate(
            &self,
            request: tonic::Request<IstioCertificateRequest>,
        ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status>;
    }

    #[derive(Debug)]
    pub struct IstioCertificateServiceServer<T> {
        inner: Arc<T>,
    }

    impl<T> IstioCertificateServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }

        pub fn from_arc(inner: Arc<T>) -> Self {
            Self { inner }
        }
    }

    impl<T> Clone for IstioCertificateServiceServer<T> {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone() }
        }
    }

    struct CreateCertificate<T>(Arc<T>);

    impl<T: IstioCertificateService> tonic::server::UnaryService<IstioCertificateRequest> for CreateCertificate<T> {
        type Response = IstioCertificateResponse;
        type Future = BoxFuture<tonic::Response<Self::Response>, tonic::Status>;

        fn call(&mut self, request: tonic::Request<IstioCertificateRequest>) -> Self::Future {
            let inner = self.0.clone();
            Box::pin(async move { inner.create_certificate(request).await })
        }
    }

    impl<T, B> Service<http::Request<B>> for IstioCertificateServiceServer<T>
    where
        T: IstioCertificateService,
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<B>) -> Self::Future {
            if request.uri().path() != CREATE_CERTIFICATE {
                return Box::pin(async { Ok(tonic::Status::unimplemented("no such method").into_http()) });
            }
            let method = CreateCertificate(self.inner.clone());
            Box::pin(async move {
                let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                Ok(grpc.unary(method, request).await)
            })
        }
    }

    impl<T> tonic::server::NamedService for IstioCertificateServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
