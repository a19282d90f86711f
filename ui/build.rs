//! Says so when the web bundle does not fit its sources. It never runs npm: `make ui` does.
//!
//! The fingerprint is SHA-256 over one line a file, sorted by the bytes of its path: the path relative to
//! `web/` with slashes, a NUL, the lowercase hex SHA-256 of the content, a newline. The build of the bundle
//! (`web/build/fingerprint.ts`) writes the same into `web/dist/build-info.json`.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What the bundle is made from, relative to `web/`. The same list as in `web/build/fingerprint.ts`.
const INPUTS: [&str; 8] = [
    "build",
    "index.html",
    "package-lock.json",
    "package.json",
    "public",
    "src",
    "tsconfig.json",
    "vite.config.ts",
];

fn main() -> Result<(), Box<dyn Error>> {
    let web = Path::new("web");
    for input in INPUTS.into_iter().chain(["dist"]) {
        println!("cargo:rerun-if-changed=web/{input}");
    }
    println!("cargo:rerun-if-env-changed=WEIR_UI_STRICT");
    let strict = std::env::var("WEIR_UI_STRICT").is_ok_and(|value| value == "1");
    match complaint(web)? {
        Some(complaint) if strict => Err(complaint.into()),
        // No bundle is a normal state: the page that says how to make one is served instead.
        Some(complaint) if web.join("dist/index.html").exists() => {
            println!("cargo:warning={complaint}");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is wrong with the bundle, if anything.
fn complaint(web: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let Ok(info) = fs::read_to_string(web.join("dist/build-info.json")) else {
        return Ok(Some("there is no web bundle in `ui/web/dist`: run `make ui`".to_owned()));
    };
    let sources = fingerprint(web)?;
    if info.contains(&format!("\"sources_sha256\":\"{sources}\"")) {
        return Ok(None);
    }
    Ok(Some("the web bundle is older than its sources: run `make ui`".to_owned()))
}

fn fingerprint(web: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    for input in INPUTS {
        collect(web, input.to_owned(), &mut paths)?;
    }
    paths.sort();
    let mut total = Sha256::new();
    for path in paths {
        let content = hex(&Sha256::digest(fs::read(web.join(&path))?));
        total.update(format!("{path}\0{content}\n"));
    }
    Ok(hex(&total.finalize()))
}

fn collect(web: &Path, path: String, paths: &mut Vec<String>) -> io::Result<()> {
    if web.join(&path).is_file() {
        paths.push(path);
        return Ok(());
    }
    for entry in fs::read_dir(web.join(&path))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') {
            collect(web, format!("{path}/{name}"), paths)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
