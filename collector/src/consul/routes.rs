//! The routes (developer.hashicorp.com, "Consul HTTP API").

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_model::limits;

use super::definition::Status;
use super::question::{DATACENTER, Question, flag, parameter};
use super::refused::Refused;
use super::view::View;
use super::{Consul, Scope, written};

type Answer = Result<Response, Refused>;
type Shared = State<Arc<Consul>>;

pub(super) fn router(consul: Arc<Consul>) -> Router {
    let nothing_else = async || {
        let said = "not found: Weir serves registration, health and catalog of Consul's API";
        (StatusCode::NOT_FOUND, said)
    };
    Router::new()
        .route("/v1/agent/service/register", put(register))
        .route("/v1/agent/service/deregister/{*id}", put(deregister))
        .route("/v1/agent/service/{id}", get(agent_service))
        .route("/v1/agent/check/register", put(register_check))
        .route("/v1/agent/check/deregister/{*id}", put(deregister_check))
        .route("/v1/agent/check/pass/{*id}", put(pass))
        .route("/v1/agent/check/warn/{*id}", put(warn))
        .route("/v1/agent/check/fail/{*id}", put(fail))
        .route("/v1/agent/check/update/{*id}", put(update))
        .route("/v1/agent/services", get(agent_services))
        .route("/v1/agent/checks", get(agent_checks))
        .route("/v1/agent/self", get(agent_self))
        .route("/v1/health/service/{name}", get(health_service))
        .route("/v1/health/checks/{name}", get(health_checks))
        .route("/v1/health/state/{state}", get(health_state))
        .route("/v1/catalog/services", get(catalog_services))
        .route("/v1/catalog/service/{name}", get(catalog_service))
        .route("/v1/catalog/nodes", get(catalog_nodes))
        .route("/v1/catalog/datacenters", get(datacenters))
        .route("/v1/status/leader", get(leader))
        // Not the web app, which answers what nobody else does: a client would take that for an answer.
        .route("/v1/{*rest}", axum::routing::any(nothing_else))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "method not allowed"))
        .with_state(consul)
}

async fn register(State(consul): Shared, request: Request) -> Answer {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let peer: IpAddr = peer.unwrap_or(consul.http.ip()).to_canonical();
    let replace = flag(request.uri(), "replace-existing-checks");
    let body = read(request.into_body()).await?;
    let (definition, checks) = written::service(&body, peer)?;
    let changed =
        consul.change(|agent| agent.register(definition, checks, replace, body.len(), Instant::now()))?;
    consul.kept(changed).await?;
    Ok(StatusCode::OK.into_response())
}

async fn deregister(State(consul): Shared, Path(id): Path<String>) -> Answer {
    let changed = consul.change(|agent| agent.deregister(&id))?;
    consul.kept(changed).await?;
    Ok(StatusCode::OK.into_response())
}

async fn register_check(State(consul): Shared, request: Request) -> Answer {
    let body = read(request.into_body()).await?;
    let check = written::check(&body)?;
    let changed = consul.change(|agent| agent.register_check(check, body.len(), Instant::now()))?;
    consul.kept(changed).await?;
    Ok(StatusCode::OK.into_response())
}

async fn deregister_check(State(consul): Shared, Path(id): Path<String>) -> Answer {
    let changed = consul.change(|agent| agent.deregister_check(&id))?;
    consul.kept(changed).await?;
    Ok(StatusCode::OK.into_response())
}

async fn pass(State(consul): Shared, Path(id): Path<String>, uri: Uri) -> Answer {
    noted(&consul, &id, &uri, Status::Passing)
}

async fn warn(State(consul): Shared, Path(id): Path<String>, uri: Uri) -> Answer {
    noted(&consul, &id, &uri, Status::Warning)
}

async fn fail(State(consul): Shared, Path(id): Path<String>, uri: Uri) -> Answer {
    noted(&consul, &id, &uri, Status::Critical)
}

fn noted(consul: &Consul, id: &str, uri: &Uri, status: Status) -> Answer {
    let note = parameter(uri, "note").unwrap_or_default();
    // Not waited for: a report that is lost in a crash is told again.
    consul.change(|agent| agent.report(id, status, note, Instant::now()))?;
    Ok(StatusCode::OK.into_response())
}

async fn update(State(consul): Shared, Path(id): Path<String>, request: Request) -> Answer {
    let body = read(request.into_body()).await?;
    let (status, output) = written::update(&body)?;
    consul.change(|agent| agent.report(&id, status, output, Instant::now()))?;
    Ok(StatusCode::OK.into_response())
}

async fn agent_services(State(consul): Shared, uri: Uri) -> Answer {
    Question::of(&uri)?;
    Ok(plain(consul.view(|view| view.agent_services())))
}

async fn agent_service(State(consul): Shared, Path(id): Path<String>) -> Answer {
    match consul.view(|view| view.agent_service(&id)) {
        Some(service) => Ok(plain(service)),
        None => Err(Refused::UnknownService(id)),
    }
}

async fn agent_checks(State(consul): Shared, uri: Uri) -> Answer {
    Question::of(&uri)?;
    Ok(plain(consul.view(|view| view.agent_checks())))
}

async fn agent_self(State(consul): Shared) -> Answer {
    Ok(plain(consul.view(|view| view.agent_self())))
}

async fn health_service(State(consul): Shared, Path(name): Path<String>, uri: Uri) -> Answer {
    let question = Question::of(&uri)?;
    ask(&consul, &question, Scope::Service(&name), |view| view.health(&name, &question)).await
}

async fn health_checks(State(consul): Shared, Path(name): Path<String>, uri: Uri) -> Answer {
    let question = Question::of(&uri)?;
    ask(&consul, &question, Scope::Service(&name), |view| view.health_checks(&name)).await
}

async fn health_state(State(consul): Shared, Path(state): Path<String>, uri: Uri) -> Answer {
    let question = Question::of(&uri)?;
    let state = match state.as_str() {
        "any" => None,
        name => match Status::from_name(name) {
            Some(status) => Some(status),
            None => return Err(Refused::Invalid(format!("Invalid state: '{name}'"))),
        },
    };
    ask(&consul, &question, Scope::Everything, |view| view.health_state(state)).await
}

async fn catalog_services(State(consul): Shared, uri: Uri) -> Answer {
    let question = Question::of(&uri)?;
    ask(&consul, &question, Scope::List, |view| view.catalog_services(&question)).await
}

async fn catalog_service(State(consul): Shared, Path(name): Path<String>, uri: Uri) -> Answer {
    // The health of instances is not asked here.
    let question = Question { passing: false, ..Question::of(&uri)? };
    ask(&consul, &question, Scope::Service(&name), |view| view.catalog_service(&name, &question)).await
}

async fn catalog_nodes(State(consul): Shared, uri: Uri) -> Answer {
    let question = Question::of(&uri)?;
    ask(&consul, &question, Scope::Node, |view| view.catalog_nodes(&question)).await
}

async fn datacenters() -> Answer {
    Ok(plain(json!([DATACENTER])))
}

/// The address of this server, and nothing while it does not know yet who is there.
async fn leader(State(consul): Shared) -> Answer {
    let early = consul.mesh.look(|registry| registry.may_be_incomplete(Instant::now()));
    Ok(plain(json!(if early { String::new() } else { consul.http.to_string() })))
}

/// Answers when there is something that the asker has not seen, or when it has waited for long enough.
async fn ask(
    consul: &Consul,
    question: &Question,
    scope: Scope<'_>,
    answer: impl Fn(&View<'_>) -> Value,
) -> Answer {
    consul.wait(question, scope).await?;
    let (index, value) = consul.view(|view| {
        let now = Instant::now();
        let early = match scope {
            Scope::Service(name) => view.registry.is_early(name, now),
            Scope::List | Scope::Everything => view.registry.may_be_incomplete(now),
            Scope::Node => false,
        };
        if early { Err(Refused::Early) } else { Ok((scope.index(view.registry), answer(view))) }
    })?;
    let mut response = plain(value);
    response.headers_mut().extend([
        (HeaderName::from_static("x-consul-index"), HeaderValue::from(index)),
        (HeaderName::from_static("x-consul-knownleader"), HeaderValue::from_static("true")),
        (HeaderName::from_static("x-consul-lastcontact"), HeaderValue::from_static("0")),
    ]);
    Ok(response)
}

fn plain(value: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// All of the body.
async fn read(body: Body) -> Result<Bytes, Refused> {
    let limited = Limited::new(body, limits::AGENT_REQUEST_BYTES).collect();
    match tokio::time::timeout(limits::AGENT_READ, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refused::TooLarge),
        Ok(Err(error)) => Err(Refused::Undecodable(error.to_string())),
        Err(_) => Err(Refused::TooSlow),
    }
}
