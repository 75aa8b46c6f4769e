//! Certificates of the test's own.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Certificates: an authority, a server at 127.0.0.1, and a client.
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes them.
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        let run = |arguments: &str| {
            let words = arguments.split(' ');
            let done = Command::new("openssl").args(words).current_dir(folder.path()).output().expect("openssl");
            assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
        for name in ["server", "client"] {
            run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            run(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names"
            ));
        }
        Self(folder)
    }

    /// Where one of `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key` is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
