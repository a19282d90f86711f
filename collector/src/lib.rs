//! The way in: OTLP over gRPC and HTTP, and the mesh's control plane.
