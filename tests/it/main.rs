//! All integration tests, as one program.

mod canary;
mod capture;
mod demo;
mod examples;
mod external_ca;
mod grpc;
mod kubernetes_api;
mod kubernetes_kept;
mod kubernetes_kinds;
mod kubernetes_node;
mod kubernetes_pages;
mod programs;
mod tidy;
