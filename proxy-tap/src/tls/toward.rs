//! Encryption towards the endpoints of one service: by the proxy's identity, or as the policy says.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;
use weir_model::policy::destination::{Tls, TlsMode};
use weir_model::policy::{Mistake, Policy};

use super::client::Clients;
use super::{Carries, Identity, TlsError, TlsFiles, authorities, chain_and_key, read_file, server_name};
use crate::io::{Io, Tcp};

/// How connections to a service are encrypted.
#[derive(Debug)]
pub(crate) enum Toward {
    /// As between all proxies, with the proxy's identity.
    Mesh {
        identity: Arc<Identity>,
        /// Who the endpoint has to prove to be; `None` where the service's name cannot stand in a certificate.
        name: Option<ServerName<'static>>,
    },
    /// As the policy says.
    Told(Told),
    /// Not at all, and then there is no connection: what the policy says cannot be done.
    Impossible(String),
}

/// What the policy says, and what its files held.
#[derive(Debug)]
pub(crate) struct Told {
    tls: Tls,
    files: Files,
    name: ServerName<'static>,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    clients: Clients,
    contents: Contents,
}

/// Where authorities are, and chain and key, if the proxy shows any.
#[derive(Debug)]
struct Files {
    ca: PathBuf,
    own: Option<(PathBuf, PathBuf)>,
}

type Contents = Vec<Vec<u8>>;

impl Toward {
    /// What `tls` says of `service`, where it says anything; otherwise `identity` is used, if the mesh may know the
    /// service (`is_mesh`).
    pub(crate) fn new(
        service: &str,
        tls: Option<&Tls>,
        identity: Option<&Arc<Identity>>,
        is_mesh: bool,
    ) -> Option<Self> {
        let Some(tls) = tls else {
            let identity = identity.filter(|_| is_mesh)?;
            return Some(Self::Mesh { identity: Arc::clone(identity), name: server_name(service) });
        };
        if tls.mode == TlsMode::Disable {
            return None;
        }
        Some(match Told::load(service, tls, identity.map(|identity| identity.files())) {
            Ok(told) => Self::Told(told),
            Err((_, problem)) => {
                tracing::error!(service, problem, "no connections until the policy is mended");
                Self::Impossible(problem)
            }
        })
    }

    /// Whether both sides show a certificate.
    pub(crate) fn is_mutual(&self) -> bool {
        match self {
            Self::Mesh { .. } => true,
            Self::Told(told) => told.files.own.is_some(),
            Self::Impossible(_) => false,
        }
    }

    /// Whether there is another proxy at the other end.
    pub(crate) fn is_mesh(&self) -> bool {
        match self {
            Self::Mesh { .. } => true,
            Self::Told(told) => told.tls.mode == TlsMode::MeshMutual,
            Self::Impossible(_) => false,
        }
    }

    /// Makes a handshake on a new connection.
    pub(crate) async fn connect(&self, carries: Carries, io: Tcp) -> io::Result<Io> {
        let impossible = |problem: &str| io::Error::new(io::ErrorKind::InvalidInput, problem.to_owned());
        match self {
            Self::Mesh { identity, name: Some(name) } => identity.connect(name, carries, io).await,
            Self::Mesh { name: None, .. } => {
                Err(impossible("the service's name cannot stand in a certificate"))
            }
            Self::Told(told) => told.current.load_full().clients.connect(&told.name, carries, io).await,
            Self::Impossible(problem) => Err(impossible(problem)),
        }
    }

    /// Reads the policy's files again; says whether they have changed. Connections keep what they began with.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let Self::Told(told) = self else { return Ok(false) };
        let contents = told.files.read().map_err(|(_, error)| error)?;
        if contents == told.current.load().contents {
            return Ok(false);
        }
        let current = told.files.current(contents, &told.tls).map_err(|(_, error)| error)?;
        told.current.store(Arc::new(current));
        Ok(true)
    }
}

/// A field of the policy's `tls`, and what is wrong with its file.
type Wrong<E> = (&'static str, E);

impl Told {
    fn load(service: &str, tls: &Tls, own: Option<&TlsFiles>) -> Result<Self, Wrong<String>> {
        let files = match (tls.mode, own) {
            (TlsMode::MeshMutual, Some(own)) => {
                Files { ca: own.ca.clone(), own: Some((own.cert.clone(), own.key.clone())) }
            }
            (TlsMode::MeshMutual, None) => {
                return Err(("mode", "mesh_mutual needs --tls-cert, --tls-key and --tls-ca".to_owned()));
            }
            _ => Files::of(tls)?,
        };
        let asked = if tls.sni.is_empty() { service } else { &tls.sni };
        let name = server_name(asked)
            .ok_or_else(|| ("sni", format!("`{asked}` cannot stand in a certificate; give another name")))?;
        let told = |(field, error): Wrong<TlsError>| (field, error.to_string());
        let current = files.read().and_then(|contents| files.current(contents, tls)).map_err(told)?;
        Ok(Self { tls: tls.clone(), files, name, current: ArcSwap::from_pointee(current) })
    }
}

impl Files {
    fn of(tls: &Tls) -> Result<Self, Wrong<String>> {
        let ca = tls.ca.as_ref().ok_or_else(|| ("ca", "expected a file of authorities".to_owned()))?;
        let own = match (tls.mode, &tls.cert, &tls.key) {
            (TlsMode::Mutual, Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (TlsMode::Mutual, ..) => return Err(("cert", "mutual needs cert and key".to_owned())),
            _ => None,
        };
        Ok(Self { ca: ca.into(), own })
    }

    fn read(&self) -> Result<Contents, Wrong<TlsError>> {
        let read = |field, file: &PathBuf| read_file(file).map_err(|error| (field, error));
        let mut contents = vec![read("ca", &self.ca)?];
        if let Some((cert, key)) = &self.own {
            contents.extend([read("cert", cert)?, read("key", key)?]);
        }
        Ok(contents)
    }

    fn current(&self, contents: Contents, tls: &Tls) -> Result<Current, Wrong<TlsError>> {
        let roots = authorities(&contents[0], &self.ca).map_err(|error| ("ca", error))?;
        let shown = match (&self.own, &contents[1..]) {
            (Some((cert, key)), [chain_pem, key_pem]) => {
                Some(chain_and_key((chain_pem, cert), (key_pem, key))?)
            }
            _ => None,
        };
        let clients = Clients::new(&roots, &tls.subject_alt_names, shown.as_ref());
        Ok(Current { clients: clients.map_err(|error| ("key", error))?, contents })
    }
}

/// What cannot be done of a policy's encryption, by a proxy with this identity.
pub(crate) fn mistakes(policy: &Policy, own: Option<&TlsFiles>) -> Vec<Mistake> {
    let told =
        policy.services.iter().filter_map(|service| Some((service, service.destination.tls.as_ref()?)));
    let active = told.filter(|(_, tls)| tls.mode != TlsMode::Disable);
    active
        .filter_map(|(service, tls)| {
            let (field, problem) = Told::load(&service.host, tls, own).err()?;
            let path = format!("service[{}].destination.tls.{field}", service.host);
            Some(Mistake { path, problem: format!("what can be used ({problem})") })
        })
        .collect()
}
