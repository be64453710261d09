"""The keys and certificates of a cluster, and the kubeconfigs made of them, by openssl.

Two authorities: the cluster's own, and the front proxy's, by which an extension API server knows
that a request came through the aggregation layer. Everything is made once and then left alone.
"""

import base64
import json
import shutil
from pathlib import Path

import layout
from host import run

DAYS = 3650
SERVER_NAMES = (
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
    f"DNS:kubernetes.default.svc.{layout.CLUSTER_DOMAIN},DNS:localhost,"
    f"IP:127.0.0.1,IP:{layout.API_SERVICE_ADDRESS},IP:{layout.CONTROL_ADDRESS}"
)

CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "dns": "/CN=system:serviceaccount:kube-system:kube-dns",
} | {node.name: f"/O=system:nodes/CN=system:node:{node.name}" for node in layout.NODES}
"""Who speaks to the API server by kubeconfig; the names are those that its built-in roles are bound to."""


def ensure(folder: Path) -> None:
    """Makes the folder of keys, whole, unless it is there."""
    if folder.exists():
        return
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    _make(draft)
    draft.rename(folder)


def _make(folder: Path) -> None:
    _authority(folder, "ca", "kubernetes-ca")
    _authority(folder, "front-proxy-ca", "front-proxy-ca")
    run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"])
    run(["openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"])
    _leaf(folder, "apiserver", "ca", "/CN=kube-apiserver", SERVER_NAMES)
    _leaf(folder, "front-proxy-client", "front-proxy-ca", "/CN=front-proxy-client")
    _leaf(folder, "apiserver-kubelet-client", "ca", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    addresses = {node.name: f"DNS:{node.name},IP:{node.address}" for node in layout.NODES}
    for name, subject in CLIENTS.items():
        _leaf(folder, name, "ca", subject, addresses.get(name, ""))
        _kubeconfig(folder, name)


def _key(path: Path) -> None:
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", path])


def _authority(folder: Path, name: str, common_name: str) -> None:
    key = folder / f"{name}.key"
    _key(key)
    run([
        "openssl", "req", "-x509", "-new", "-key", key, "-subj", f"/CN={common_name}", "-days", str(DAYS),
        "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature", "-out", folder / f"{name}.crt",
    ])  # fmt: skip


def _leaf(folder: Path, name: str, authority: str, subject: str, names: str = "") -> None:
    """A certificate for server and client use, with subject alternative names if there are any."""
    key, request, extensions = (folder / f"{name}.{end}" for end in ("key", "csr", "ext"))
    _key(key)
    run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
    lines = [
        "basicConstraints=CA:FALSE",
        "keyUsage=digitalSignature,keyEncipherment",
        "extendedKeyUsage=serverAuth,clientAuth",
    ]
    extensions.write_text("\n".join(lines + ([f"subjectAltName={names}"] if names else [])))
    run([
        "openssl", "x509", "-req", "-in", request, "-days", str(DAYS), "-extfile", extensions,
        "-CA", folder / f"{authority}.crt", "-CAkey", folder / f"{authority}.key", "-CAcreateserial",
        "-out", folder / f"{name}.crt",
    ])  # fmt: skip
    request.unlink()
    extensions.unlink()


def _kubeconfig(folder: Path, name: str) -> None:
    """JSON is YAML enough for every reader of a kubeconfig."""

    def inline(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "taffrail",
                "cluster": {"server": layout.API_SERVER, "certificate-authority-data": inline("ca.crt")},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": inline(f"{name}.crt"),
                    "client-key-data": inline(f"{name}.key"),
                },
            }
        ],
        "contexts": [{"name": "taffrail", "context": {"cluster": "taffrail", "user": name}}],
        "current-context": "taffrail",
    }
    (folder / f"{name}.kubeconfig").write_text(json.dumps(config, indent=1))
