"""Every check of `keystead doctor`: its id, what it expects, and what a cluster suffers where that is not so.

An id is for ever: it is in runbooks and tickets. One that is given up is not used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PAGE = "docs/operate/doctor.md"

Level = Literal["fail", "warn", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at."""

    id: str
    title: str
    expected: str
    why: str
    """What it does to a cluster if it is otherwise."""
    fix: str

    @property
    def link(self) -> str:
        """The place of its explanation."""
        return f"{PAGE}#{self.id.lower()}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that did not find what it expects, or could not look."""

    check: Check
    level: Level
    subject: str
    """What it is about: `key aws-prod`, `endpoint main`, a file."""
    got: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """Checks that belong together."""

    title: str
    checks: tuple[Check, ...]


_CONFIGURATION = Chapter(
    "The configuration and its files",
    (
        Check(
            "KS-D001",
            "The configuration is valid",
            "no problem in `keystead config lint`",
            "The plugin ends at its start with 78, or goes on with the configuration from before; without a plugin an "
            "API server that starts can neither read nor write what is encrypted.",
            "Change what is named; `keystead config explain FIELD` describes each field.",
        ),
        Check(
            "KS-D002",
            "Nothing in the configuration deserves a second look",
            "no warning in `keystead config lint`",
            "It works, and less well than it could: see the warning.",
            "Do what the warning says, or live with it knowingly.",
        ),
        Check(
            "KS-D003",
            "Nobody else may write the configuration",
            "the file belongs to root or to this user, and group and others may not write it",
            "Whoever writes it chooses the keys that the next Secrets are encrypted under.",
            "chown root FILE; chmod go-w FILE",
        ),
        Check(
            "KS-D004",
            "The files of each key can be read",
            "every file that an entry of keys names exists and is readable",
            "The key cannot be opened: after a restart of the plugin, everything under this key alone is unreadable.",
            "Put the file in its place, readable for the plugin's user.",
        ),
        Check(
            "KS-D005",
            "Files with secrets are closed to others",
            "no access for other users, and no writing by the group",
            "Any process of this node could take the credentials and decrypt every seed in a stolen copy of etcd.",
            "chmod 0600 FILE, or 0640 with the plugin's group.",
        ),
        Check(
            "KS-D006",
            "Nobody else may replace these files",
            "directories of the configuration and of the keys' files are not writable by others",
            "Whoever may write to the directory may put another file there, and so become the plugin's key.",
            "chmod o-w DIRECTORY",
        ),
        Check(
            "KS-D007",
            "The state directory can be written",
            "a directory, or one that can be made, writable for the plugin's user and for no other",
            "Each start makes a new local KEK, for which every active key has to answer; while one does not, nothing "
            "can be written.",
            "install -d -m 0700 DIRECTORY, owned by the plugin's user.",
        ),
        Check(
            "KS-D008",
            "The state directory outlives a reboot",
            "a file system on disk",
            "After a reboot of the node the record is gone, and with it a start that needs only one of several keys.",
            "Choose a directory on disk, such as /var/lib/keystead.",
        ),
        Check(
            "KS-D009",
            "The stored record can be used",
            "a record of this cluster label, or none yet",
            "The plugin sets the file aside and makes a new local KEK, for which every active key has to answer.",
            "See `keystead inspect STATEDIR/ENDPOINT/current`; restore the file, or the label.",
        ),
    ),
)
_MACHINE = Chapter(
    "The machine",
    (
        Check(
            "KS-D010",
            "The clock is kept by somebody",
            "the kernel's clock is synchronised",
            "Clouds refuse requests that are signed minutes off, and certificates seem expired: the key is denied "
            "although nothing is wrong with it.",
            "Start chrony or systemd-timesyncd.",
        ),
        Check(
            "KS-D011",
            "The clock did not go back",
            "no stored record is from the future",
            "Local KEKs seem younger than they are and are not replaced, and logins fail.",
            "Set the clock.",
        ),
    ),
)
_SOCKETS = Chapter(
    "Sockets and the running plugin",
    (
        Check(
            "KS-D020",
            "The socket's directory is safe",
            "it exists, and others may not write to it",
            "The plugin does not start, or somebody puts a socket of his own there and gets every new seed in clear.",
            "Make the directory: systemd RuntimeDirectory=, a static pod's hostPath with DirectoryOrCreate. Close it.",
        ),
        Check(
            "KS-D021",
            "The socket's path is free, or a socket",
            "nothing, a stale socket, or a running plugin",
            "The plugin does not start, so an API server that starts cannot read what is encrypted.",
            "Remove what is there.",
        ),
        Check(
            "KS-D022",
            "The port for metrics is free",
            "nothing listens there, or this plugin",
            "KMS is served all the same. Nobody sees metrics and probes, and a liveness probe that another process "
            "answers says nothing.",
            'Choose another port in observability.http.address, or "".',
        ),
        Check(
            "KS-D023",
            "The running plugin answers as kube-apiserver expects",
            "`keystead self-test` passes",
            "The API server cannot write, and after its next start not read, what is encrypted.",
            "See the text, the plugin's log, and docs/errors.md.",
        ),
        Check(
            "KS-D024",
            "The running plugin has nothing to report",
            "`keystead status` finds nothing wrong",
            "It still works, and a restart or a rotation may be when it does not.",
            "See `keystead status`.",
        ),
    ),
)
_KEYS = Chapter(
    "Remote keys",
    (
        Check(
            "KS-D030",
            "The remote answers",
            "its name resolves, it can be connected to, and it is in service",
            "Nothing stops while local KEKs are in memory. A plugin that restarts now has none: then nothing can be "
            "read or written until the remote is back.",
            "Look at name servers, routes, firewalls and proxies from this node, and at the state of the KMS.",
        ),
        Check(
            "KS-D031",
            "Its certificate is trusted",
            "a TLS handshake with the configured CA succeeds",
            "No call succeeds: the same as a remote that is away, and it does not pass by itself.",
            "Set the CA file to the authority that signed the server's certificate; renew an expired certificate.",
        ),
        Check(
            "KS-D032",
            "The login works",
            "the remote accepts the credentials",
            "The key can be neither used nor tested; a plugin that restarts serves nothing.",
            "Renew the credentials; look at the role, and at this node's clock.",
        ),
        Check(
            "KS-D033",
            "The key exists",
            "the remote knows the key, and the version that is pinned or stored",
            "What is under this key alone is lost unless the key can be restored.",
            "Mend the name, or restore the key. Never make a new one under an old name.",
        ),
        Check(
            "KS-D034",
            "The key is enabled",
            "neither disabled, nor scheduled for deletion",
            "After a restart of the plugin, what is under this key alone cannot be read; after the deletion, never.",
            "Enable it; cancel its deletion today.",
        ),
        Check(
            "KS-D035",
            "The credentials may encrypt",
            "a new random value can be wrapped",
            "No new local KEK can be made; an API server that starts with a plugin that has none can neither write nor "
            "read.",
            "Allow encryption with the key; `keystead generate policy` prints the smallest policy.",
        ),
        Check(
            "KS-D036",
            "The credentials may decrypt",
            "what was wrapped, now and in the stored record, can be unwrapped",
            "Everything looks well until a restart of the plugin: then this node cannot read a single Secret.",
            "Allow decryption with the key; `keystead generate policy` prints the smallest policy.",
        ),
        Check(
            "KS-D037",
            "What is unwrapped is what was wrapped",
            "the same 32 bytes, and answers that can be right",
            "Records that nobody can open, or a cluster that reads wrong bytes.",
            "Do not use this key. See the text, and tell the adapter's author.",
        ),
        Check(
            "KS-D042",
            "Its provider can use the key",
            "a key of the right kind, and files that fit",
            "It is never opened, whatever the remote does: what is under this key alone cannot be read.",
            "Do what the text says.",
        ),
        Check(
            "KS-D038",
            "The credentials last",
            "they are renewed by themselves, or end in more than a week",
            "When they end, the key is denied: a plugin that restarts then serves nothing.",
            "Renew them now, and have something renew them.",
        ),
        Check(
            "KS-D039",
            "The key is protected against loss",
            "the remote does not let a single command delete or export it",
            "One mistyped command, and all that is encrypted under this key is lost, with every backup.",
            "Do what the text says at the KMS.",
        ),
        Check(
            "KS-D040",
            "It answers in time",
            "an unwrap in less than 2 s",
            "The first read of each seed after a restart fails and is tried again; cold starts take long.",
            "Use a nearer replica or region; look at the KMS's load.",
        ),
        Check(
            "KS-D041",
            "It has quota left",
            "no call is throttled",
            "At a cold start of all nodes the calls that matter are refused.",
            "Raise the quota, and find out who else uses it up.",
        ),
    ),
)
_BOOTSTRAP = Chapter(
    "Nothing comes from the cluster itself",
    (
        Check(
            "KS-D050",
            "The remote is outside the cluster",
            "no address below .svc or .cluster.local, and none among the cluster's Service IPs",
            "When all control planes start at once, the API server waits for the plugin and the plugin for the "
            "cluster: neither starts, and nobody can mend it with kubectl.",
            "Run the KMS elsewhere, or give an address that works without the cluster.",
        ),
        Check(
            "KS-D051",
            "Credentials are not the cluster's",
            "no service account's token, and no login that this cluster has to review",
            "After a cold start there is no token, and nobody who reviews one: the plugin cannot log in to the KMS.",
            "Use files on the node: AppRole, a client certificate, an instance identity.",
        ),
        Check(
            "KS-D052",
            "Names resolve without the cluster",
            "no name server in resolv.conf is a Service IP",
            "After a cold start there is no cluster DNS: the plugin cannot find the KMS.",
            "dnsPolicy: Default with hostNetwork: true; on the node, a name server outside the cluster.",
        ),
    ),
)
_ENCRYPTION = Chapter(
    "kube-apiserver's EncryptionConfiguration",
    (
        Check(
            "KS-D060",
            "kube-apiserver accepts the file",
            "the fields of apiserver.config.k8s.io/v1, and no other",
            "An API server that starts ends at once; one that runs keeps the configuration from before.",
            "Change what is named.",
        ),
        Check(
            "KS-D061",
            "It names a socket that is served",
            "unix:///PATH of an endpoint",
            "The API server waits for a plugin that never answers: nothing encrypted is read or written.",
            "Write three slashes and the path from the plugin's configuration.",
        ),
        Check(
            "KS-D062",
            "Each provider has a name of its own",
            "a name without ':', once",
            "The name is part of what is stored. kube-apiserver refuses a bad one, and a changed one makes all that "
            "was written before unreadable.",
            "Give each a name, and never change it.",
        ),
        Check(
            "KS-D063",
            "The timeout fits the plugin",
            "3s",
            "Calls are cut off shortly before they are answered, most of all at a cold start.",
            "timeout: 3s",
        ),
        Check(
            "KS-D064",
            "The KMS writes",
            "kms is the first provider",
            "Whatever is written meanwhile is stored in plaintext, or under a key that lies in this file.",
            "Put kms first, once every API server has it in its list.",
        ),
        Check(
            "KS-D065",
            "Plaintext is not accepted for ever",
            "no identity after kms, once all is rewritten",
            "Plaintext that somebody puts into etcd is served as if it were a Secret.",
            "Migrate, count with `keystead inventory`, then take identity away: docs/operate/enable.md.",
        ),
        Check(
            "KS-D066",
            "Only what matters is encrypted",
            "a list of resources, not *.*",
            "With *.*, an API server whose plugin is 10 s late ends, and starts again and again.",
            "List the resources: secrets, configmaps, and your own.",
        ),
        Check(
            "KS-D067",
            "Both speak the same KMS API",
            "apiVersion: v2, and an endpoint that serves it",
            "KMS v1 is off since Kubernetes 1.29 without its feature gate; an entry without apiVersion means v1.",
            "apiVersion: v2, and kmsVersions: [v2] at the endpoint.",
        ),
        Check(
            "KS-D068",
            "The file is closed to others",
            "no access for other users",
            "Keys of aescbc and secretbox entries lie in it; whoever may write it can turn encryption off.",
            "chmod 0600 FILE",
        ),
    ),
)
_APISERVER = Chapter(
    "kube-apiserver's manifest",
    (
        Check(
            "KS-D070",
            "It mounts the directory of the socket",
            "a hostPath volume of the directory, or of one above it",
            "With the socket file mounted, the first restart of the plugin leaves the API server with a dead one until "
            "its own restart.",
            "Mount the directory, with type DirectoryOrCreate.",
        ),
        Check(
            "KS-D071",
            "It uses the EncryptionConfiguration",
            "--encryption-provider-config names this file, and it is mounted",
            "Secrets are stored in plaintext, whatever the plugin does; or the API server does not start.",
            "Set the flag and mount the file.",
        ),
        Check(
            "KS-D072",
            "It takes up changes of the file",
            "--encryption-provider-config-automatic-reload=true",
            "Each step of a rotation or migration needs a restart of every API server, and one is forgotten.",
            "Set the flag.",
        ),
        Check(
            "KS-D077",
            "It sees a file that takes the place of another",
            "the directory of the EncryptionConfiguration is mounted, not the file",
            "A mounted file stays the old one when an editor or a tool moves a new one into its place: this API server "
            "never takes up the next stage, and others do.",
            "Mount a directory of its own, such as /etc/kubernetes/encryption.",
        ),
        Check(
            "KS-D073",
            "The KMS v1 gate is on where v1 is used",
            "--feature-gates=KMSv1=true from Kubernetes 1.29 on",
            "The API server refuses its configuration and does not start.",
            "Set the gate, or move to v2: docs/operate/v1-to-v2.md.",
        ),
        Check(
            "KS-D074",
            "Status answers the version that this Kubernetes takes",
            "statusVersion v2beta1 for 1.27 and 1.28, and v2 from 1.29 on",
            "1.27 and 1.28 call the plugin unhealthy for ever, and report not ready.",
            "Set statusVersion at the endpoint.",
        ),
        Check(
            "KS-D075",
            "Nobody deletes what merely cannot be read now",
            "--feature-gates=AllowUnsafeMalformedObjectDeletion=false from Kubernetes 1.37 on",
            "1.37 calls a Secret whose KMS is away for a minute a corrupt object, and lets administrators delete it "
            "unread: intact Secrets are lost for good.",
            "Turn the gate off until it is needed, or take the verb unsafe-delete-ignore-read-errors away.",
        ),
        Check(
            "KS-D076",
            "Its start may take long enough",
            "a startupProbe that allows 75 s or more",
            "With a plugin that is late, /livez is red for up to 71 s: kubelet kills an API server that would have "
            "become healthy, again and again.",
            "failureThreshold times periodSeconds of 75 or more; kubeadm's own is 240.",
        ),
    ),
)
_FORM = Chapter(
    "How the plugin is run",
    (
        Check(
            "KS-D080",
            "There is a manifest or unit",
            "a file that can be read, with a container or service that runs keystead",
            "Nothing starts the plugin when the node boots.",
            "`keystead generate static-pod|systemd|sidecar|daemonset` prints one.",
        ),
        Check(
            "KS-D081",
            "It needs nothing from the API",
            "no service account's token, Secret, ConfigMap, claim or pull secret",
            "A static pod with these is refused. In other forms it waits for the API server, which waits for it.",
            "Mount files of the node instead.",
        ),
        Check(
            "KS-D082",
            "It is on the node's network",
            "hostNetwork: true, with dnsPolicy Default",
            "It waits for the cluster's network and DNS, which wait for the API server.",
            "Set both.",
        ),
        Check(
            "KS-D083",
            "It is not evicted",
            "priorityClassName system-node-critical or system-cluster-critical; systemd OOMScoreAdjust below 0",
            "A node that is short of memory ends the plugin first, and with it what the API server can read.",
            "Set the class, and memory requests.",
        ),
        Check(
            "KS-D084",
            "It sees its files",
            "the configuration, the keys' files and the state directory are mounted, and the socket's directory is a "
            "writable directory of the node",
            "The plugin does not start, or its socket is one that the API server never sees.",
            "Mount the directories; for the socket hostPath with DirectoryOrCreate.",
        ),
        Check(
            "KS-D085",
            "No probe depends on the remote",
            "liveness and startup probes of /livez",
            "When the remote is away, kubelet restarts the plugin, which throws away the local KEKs that all still "
            "works with: an outage of the KMS becomes one of the cluster.",
            "Probe /livez.",
        ),
        Check(
            "KS-D086",
            "systemd starts it early, and again",
            "Before= kubelet, k3s or rke2; Restart=; RestartPreventExitStatus=78",
            "The API server starts without the plugin and may end; or a crash is for good.",
            "`keystead generate systemd`",
        ),
        Check(
            "KS-D090",
            "The socket's directory outlives a restart",
            "RuntimeDirectoryPreserve=yes where systemd makes the directory",
            "systemd removes it when the plugin stops. Containers that have mounted it keep the removed one: the API "
            "server never sees the plugin again until its own restart.",
            "RuntimeDirectoryPreserve=yes",
        ),
        Check(
            "KS-D087",
            "Its user may read its files",
            "runAsUser or User= owns or may read what the configuration names",
            "The plugin does not start, or cannot log in.",
            "chown the files, or change the user.",
        ),
        Check(
            "KS-D088",
            "Its image needs no registry at the start",
            "imagePullPolicy IfNotPresent or Never, and a tag or digest that is not latest",
            "A node that boots while the registry is away, or is in this cluster, has no plugin.",
            "Pull images beforehand and set the policy.",
        ),
        Check(
            "KS-D089",
            "It starts without the API server",
            "a static pod or a service of the node",
            "A DaemonSet is started by the API server. After a cold start of all control planes kubelet waits for an "
            "API server that cannot read its Secrets: bring the plugin up by hand.",
            "Use static-pod or systemd; docs/deploy/daemonset.md has the way out of the deadlock.",
        ),
    ),
)

CHAPTERS = (
    _CONFIGURATION,
    _MACHINE,
    _SOCKETS,
    _KEYS,
    _BOOTSTRAP,
    _ENCRYPTION,
    _APISERVER,
    _FORM,
)
CHECKS = {check.id: check for chapter in CHAPTERS for check in chapter.checks}


def found(number: int, level: Level, subject: str, got: str) -> Finding:
    """A finding of check `KS-D<number>`."""
    return Finding(CHECKS[f"KS-D{number:03}"], level, subject, got)
