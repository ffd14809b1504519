//! `outrigger cert issue`: a certificate for a process that has no proxy, in files that gRPC and others read. The key is made here, and
//! never leaves.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use rcgen::{CertificateParams, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use xds::ca::IstioCertificateRequest;
use xds::ca::client::IstioCertificateServiceClient;

const KEY: &str = "key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOTS: &str = "root-cert.pem";
/// The name that the pilot's certificate has wherever it is.
const PILOT: &str = "outrigger-pilot.outrigger-system.svc";
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  outrigger cert issue --pilot 127.0.0.1:15010 --token web.token --out ./web-certs --keep"
)]
pub(crate) struct Flags {
    /// The pilot's plain or secure xDS address.
    #[arg(long, value_name = "HOST:PORT")]
    pilot: String,
    /// A file that holds the token by which the process proves who it is.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// The roots by which a secure pilot proves itself; without them the address is the plain one.
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// A folder for `key.pem`, `cert-chain.pem` and `root-cert.pem`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on, and renew at half life.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&flags.out).with_context(|| format!("folder {}", flags.out.display()))?;
    crate::runtime()?.block_on(async {
        loop {
            issue(flags).await?;
            if !flags.keep {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(LIFETIME / 2).await;
        }
    })
}

async fn issue(flags: &Flags) -> anyhow::Result<()> {
    let token =
        std::fs::read_to_string(&flags.token).with_context(|| format!("token file {}", flags.token.display()))?;
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let validity_duration = i64::try_from(LIFETIME.as_secs())?;
    let mut request = tonic::Request::new(IstioCertificateRequest { csr, validity_duration, metadata: None });
    request.metadata_mut().insert("authorization", format!("Bearer {}", token.trim()).parse()?);
    let answer = IstioCertificateServiceClient::new(channel(flags).await?).create_certificate(request).await;
    let chain = match answer {
        Ok(answer) => answer.into_inner().cert_chain,
        Err(status) => bail!("the pilot at {} says: {}", flags.pilot, status.message()),
    };
    let root = chain.last().context("the pilot sent no certificate")?;
    // The key last: who watches the files sees it change when all is there.
    replace(&flags.out, ROOTS, root)?;
    replace(&flags.out, CHAIN, &chain.concat())?;
    replace(&flags.out, KEY, &key.serialize_pem())
}

async fn channel(flags: &Flags) -> anyhow::Result<Channel> {
    let endpoint = match &flags.roots {
        None => Endpoint::from_shared(format!("http://{}", flags.pilot))?,
        Some(file) => {
            let roots = std::fs::read(file).with_context(|| format!("roots {}", file.display()))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)).domain_name(PILOT);
            Endpoint::from_shared(format!("https://{}", flags.pilot))?.tls_config(tls)?
        }
    };
    endpoint.connect().await.with_context(|| format!("no pilot at {}", flags.pilot))
}

/// Whole or not at all, for its owner's eyes alone.
fn replace(folder: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let draft = folder.join(format!(".{name}"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content.as_bytes())?;
    std::fs::rename(&draft, folder.join(name)).with_context(|| format!("{}", folder.join(name).display()))
}
