//! The web app inside the binary: whoever opens the HTTP port in a browser sees the mesh, without a file
//! or a server beside it.
//!
//! In goes a request that no API route took, out comes a file of the bundle that `make ui` built into
//! `web/dist`, or, where none was built, a small page that says so and shows the services all the same.
//! Nothing here reads the disk, knows the API, or keeps state.

mod files;
mod respond;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;

use files::Site;

/// Answers every request that no other route takes: merge it last.
pub fn router() -> Router {
    let site = Site::embedded();
    Router::new().fallback(move |request: Request| async move {
        respond::respond(site, request.method(), request.uri().path(), request.headers()).map(Body::from)
    })
}

/// Whether the web app was there when the program was compiled.
pub fn has_bundle() -> bool {
    Site::embedded() == Site::Bundle
}

#[cfg(test)]
mod tests;
