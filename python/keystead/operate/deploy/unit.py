"""A unit of systemd: for k3s, RKE2, and wherever the plugin has to be there before any pod."""

from __future__ import annotations

from keystead.operate.deploy.place import Place

PROGRAM = "/opt/keystead/bin/keystead"


def service(place: Place, program: str = PROGRAM) -> str:
    """Type=notify: kubelet is started once the sockets listen, which needs no remote."""
    runtime = [path.name for path in place.sockets if str(path.parent) == "/run"]
    others = [str(path) for path in place.sockets if str(path.parent) != "/run"]
    state = place.state
    directories = f"RuntimeDirectory={' '.join(runtime)}\nRuntimeDirectoryMode=0700\n" if runtime else ""
    if state is not None and str(state.parent) == "/var/lib":
        directories += f"StateDirectory={state.name}\nStateDirectoryMode=0700\n"
    elif state is not None:
        others.append(str(state))
    directories += f"ReadWritePaths={' '.join(others)}\n" if others else ""
    user = "" if place.user == 0 else f"User={place.user}\nGroup={place.user}\n"
    return f"""\
# Keystead as a service of the node. Place it as /etc/systemd/system/keystead.service, then:
#   systemctl daemon-reload && systemctl enable --now keystead
[Unit]
Description=Keystead, a KMS plugin for kube-apiserver
Documentation=https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/
# Not network-online.target: the plugin answers without a network, and tries its remotes until they are there.
After=network.target local-fs.target
Before=kubelet.service k3s.service rke2-server.service
# For ever: what is wrong at the start, such as a name server, may be well a minute later.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} serve --config {place.config}
ExecReload=/bin/kill -HUP $MAINPID
# Fires only when Status cannot be answered; a remote that is away never stops the signs of life.
WatchdogSec=60
TimeoutStartSec=60
TimeoutStopSec=15
Restart=always
RestartSec=1
# An invalid configuration: a restart does not help.
RestartPreventExitStatus=78
OOMScoreAdjust=-999
LimitMEMLOCK=8M
LimitCORE=0
{user}{directories}# Containers have mounted this directory: one made anew is another one, and theirs stays empty.
RuntimeDirectoryPreserve=yes
UMask=0077

# Root without a single capability reads what root owns, and that is all it needs.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
