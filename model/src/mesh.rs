//! The mesh protocol as generated from `proto/weir/mesh/v1/mesh.proto`: messages, client and server.
#![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code; the .proto file documents it")]

tonic::include_proto!("weir.mesh.v1");
