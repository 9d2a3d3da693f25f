//! Images that need no registry: a sandbox image and a small one of busybox, as OCI layouts in tar files
//! (OCI Image Layout Specification 1.0.0).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::SANDBOX_IMAGE;

/// The name of the busybox image.
pub const BUSYBOX_IMAGE: &str = "keelstone.local/busybox:1";
/// The program of both images, of the package busybox-static.
pub const BUSYBOX: &str = "/bin/busybox";
/// Waits for ever, and for the children that a shared PID namespace leaves to its first process.
const PAUSE: &str = "while :; do /bin/busybox sleep 2147483647 & wait; done";

/// Writes both images below the cluster's folder, unless they are there; returns names and paths.
pub fn write_all(cluster_dir: &Path) -> io::Result<Vec<(&'static str, PathBuf)>> {
    let dir = cluster_dir.join("images");
    fs::create_dir_all(&dir)?;
    let busybox = fs::read(BUSYBOX)
        .map_err(|e| io::Error::new(e.kind(), format!("{BUSYBOX}: {e} (it is in the package busybox-static)")))?;
    let output = Command::new(BUSYBOX).arg("--list").output()?;
    let applets: Vec<String> = String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
    let mut written = Vec::new();
    let pause = [BUSYBOX, "sh", "-c", PAUSE];
    for (name, file, command, applets) in [
        (SANDBOX_IMAGE, "pause.tar", &pause[..], &[][..]),
        (BUSYBOX_IMAGE, "busybox.tar", &["/bin/sh"][..], &applets[..]),
    ] {
        let path = dir.join(file);
        if !path.exists() {
            let part = dir.join(format!("{file}.part"));
            fs::write(&part, image(name, &busybox, applets, command))?;
            fs::rename(part, &path)?;
        }
        written.push((name, path));
    }
    Ok(written)
}

fn image(name: &str, busybox: &[u8], applets: &[String], command: &[&str]) -> Vec<u8> {
    let mut layer = Tar::default();
    for folder in ["bin", "etc", "root", "var", "dev", "proc", "sys"] {
        layer.folder(folder, 0o755);
    }
    layer.folder("tmp", 0o1777);
    layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n");
    layer.file("etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n");
    layer.file("bin/busybox", 0o755, busybox);
    for applet in applets.iter().filter(|a| *a != "busybox") {
        layer.link(&format!("bin/{applet}"), "/bin/busybox");
    }
    let layer = layer.end();
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part("application/vnd.oci.image.config.v1+json", &config),
        "layers": [part("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = part("application/vnd.oci.image.manifest.v1+json", &manifest);
    let tag = name.rsplit(':').next().unwrap_or_default();
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let mut out = Tar::default();
    out.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    out.file("index.json", 0o644, index.to_string().as_bytes());
    for blob in [&layer, &config, &manifest] {
        out.file(&format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:")), 0o644, blob);
    }
    out.end()
}

/// The machine's, as image configurations name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hash}")
}

/// A tar archive (POSIX ustar) in the making.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn folder(&mut self, path: &str, mode: u32) {
        self.header(path, mode, 0, b'5', "");
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.header(path, mode, content.len(), b'0', "");
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn link(&mut self, path: &str, target: &str) {
        self.header(path, 0o777, 0, b'2', target);
    }

    fn header(&mut self, path: &str, mode: u32, length: usize, kind: u8, target: &str) {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{length:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        // The checksum is taken with its own field full of spaces.
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_is_read_by_tar() {
        let mut tar = Tar::default();
        tar.folder("a", 0o755);
        tar.file("a/b", 0o644, b"hello");
        tar.link("a/c", "b");
        let dir = std::env::temp_dir().join(format!("keelstone-tar-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("t.tar"), tar.end()).unwrap();
        let status = Command::new("tar").current_dir(&dir).args(["xf", "t.tar"]).status().unwrap();
        assert!(status.success());
        assert_eq!(fs::read_to_string(dir.join("a/c")).unwrap(), "hello");
        fs::remove_dir_all(dir).unwrap();
    }
}
