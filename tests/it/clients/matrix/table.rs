//! The table: which client does what, by which line.
//!
//! Lines are for bash. `$A` is the registry's address, `$P` the client's flag
//! for plain HTTP where it needs one, `$C` its option for the certificate
//! where nothing else tells it, `$T` a personal access token, `$N` a part of
//! names that is the client's own. `base` is an image that is there before;
//! `INSECURE` and `CERTS` are for skopeo, where it helps another client.
//! `large` is an OCI layout with a layer of 300 MB, `large.tar`; `struck LINE`
//! runs a line, restarts the registry meanwhile, and ends as the line does.

use super::Setup;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Login,
    Push,
    Pull,
    List,
    Tag,
    CopyWithin,
    CopyBetween,
    Index,
    Artifact,
    Referrers,
    Sign,
    Verify,
    Attest,
    Large,
    Interrupted,
    Parallel,
    Delete,
}

impl Operation {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::List => "list",
            Self::Tag => "tag",
            Self::CopyWithin => "copy within a repository",
            Self::CopyBetween => "copy to another repository",
            Self::Index => "multi-arch index",
            Self::Artifact => "artifact with a subject",
            Self::Referrers => "referrers",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Attest => "attest",
            Self::Large => "a layer of 300 MB",
            Self::Interrupted => "a push across a restart of the registry",
            Self::Parallel => "ten pushes at once",
            Self::Delete => "delete",
        }
    }
}

/// A client and what it does.
pub struct Client {
    /// Its name, as people type it.
    pub name: &'static str,
    /// Flag by which it takes plain HTTP, and whether it needs none on loopback.
    pub plain: (&'static str, bool),
    /// Option that names the certificate, where it has one.
    pub certificate: Option<&'static str>,
    /// Runs before all, for each address; no operation of its own.
    pub prepare: &'static str,
    /// The operations in their order.
    pub steps: &'static [(Operation, &'static str)],
    /// What a reader should know besides.
    pub note: &'static str,
}

use Operation::{
    Artifact, Attest, CopyBetween, CopyWithin, Delete, Index, Interrupted, Large, List, Login, Parallel, Pull, Push,
    Referrers, Sign, Tag, Verify,
};

impl Client {
    /// Returns the flag for plain HTTP that a setup takes.
    pub fn plain_flag(&self, setup: Setup) -> &'static str {
        match (setup, self.plain) {
            (Setup::Https | Setup::HttpsOption, _) | (Setup::Loopback | Setup::Database, (_, true)) => "",
            (_, (flag, _)) => flag,
        }
    }
}

/// All clients.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "docker",
        plain: ("", true),
        certificate: Some(""),
        prepare: "",
        steps: &[
            (Login, "echo $T | docker login $A -u khulnasoft-token --password-stdin"),
            (
                Push,
                "docker build -q -t $A/$N/app:v1 context && docker push -q $A/$N/app:v1",
            ),
            (Pull, "docker rmi -f $A/$N/app:v1 && docker pull -q $A/$N/app:v1"),
            (
                Tag,
                "docker tag $A/$N/app:v1 $A/$N/app:v2 && docker push -q $A/$N/app:v2",
            ),
            (
                CopyWithin,
                "docker tag $A/$N/app:v1 $A/$N/app:v3 && docker push -q $A/$N/app:v3",
            ),
            (
                CopyBetween,
                "docker tag $A/$N/app:v1 $A/$N/other:v1 && docker push -q $A/$N/other:v1",
            ),
            (
                Parallel,
                "for i in 0 1 2 3 4 5 6 7 8 9; do docker tag $A/$N/app:v1 $A/$N/many$i:v1; docker push -q $A/$N/many$i:v1 & pids=\"$pids $!\"; done; for pid in $pids; do wait $pid; done",
            ),
        ],
        note: "On another address than loopback the daemon must be told of plain HTTP: `insecure-registries` in `/etc/docker/daemon.json`. Over HTTPS `kdk trust-docker-registry` puts the certificate where the Engine looks.",
    },
    Client {
        name: "podman",
        plain: ("--tls-verify=false", false),
        certificate: Some("--cert-dir $CERTS"),
        prepare: "alias podman=\"podman $STORAGE --tmpdir $PWD/pt --cgroup-manager cgroupfs --events-backend none\"; shopt -s expand_aliases",
        steps: &[
            (
                Login,
                "echo $T | podman login $P $C -u khulnasoft-token --password-stdin $A",
            ),
            (Pull, "podman pull -q $P $C $A/base:v1"),
            (
                Push,
                "podman push -q $P $C --digestfile d1 $A/base:v1 $A/$N/app:v1 && skopeo inspect $P $C --raw docker://$A/$N/app:v1 | sha256sum | cut -d' ' -f1 | sed s/^/sha256:/ | cmp - <(cat d1; echo)",
            ),
            (
                Tag,
                "podman tag $A/base:v1 $A/$N/app:v2 && podman push -q $P $C $A/$N/app:v2",
            ),
            (CopyBetween, "podman push -q $P $C $A/base:v1 $A/$N/other:v1"),
            (
                Index,
                "podman manifest create list$$ && podman manifest add $P $C list$$ docker://$A/$N/app:v1 && podman manifest push -q $P $C list$$ docker://$A/$N/list:v1",
            ),
        ],
        note: "`kdk login --client podman` offers the drop-in `registries.conf.d/kdk.conf`, so that it needs no flag over plain HTTP.",
    },
    Client {
        name: "buildah",
        plain: ("--tls-verify=false", false),
        certificate: Some("--cert-dir $CERTS"),
        prepare: "alias buildah=\"buildah $STORAGE\"; shopt -s expand_aliases",
        steps: &[
            (
                Login,
                "echo $T | buildah login $P $C -u khulnasoft-token --password-stdin $A",
            ),
            (
                Push,
                "buildah bud -q --isolation chroot -t $A/$N/app:v1 context && buildah push -q $P $C $A/$N/app:v1",
            ),
            (Pull, "buildah rmi $A/$N/app:v1 && buildah pull -q $P $C $A/$N/app:v1"),
        ],
        note: "It reads podman's login and its drop-in.",
    },
    Client {
        name: "skopeo",
        plain: ("--tls-verify=false", false),
        certificate: Some("--cert-dir $CERTS"),
        prepare: "S=${P/--/--src-}; D=${P/--/--dest-}; SC=${C/--/--src-}; DC=${C/--/--dest-}",
        steps: &[
            (
                Login,
                "echo $T | skopeo login $P $C -u khulnasoft-token --password-stdin $A",
            ),
            (Push, "skopeo copy -q $D $DC oci:layout:image docker://$A/$N/app:v1"),
            (
                Pull,
                "rm -rf back && skopeo copy -q $S $SC docker://$A/$N/app:v1 oci:back:image && cmp layout/index.json back/index.json || test $(ls back/blobs/sha256 | wc -l) = $(ls layout/blobs/sha256 | wc -l)",
            ),
            (List, "skopeo list-tags $P $C docker://$A/$N/app | grep v1 >/dev/null"),
            (
                CopyWithin,
                "skopeo copy -q $S $D $SC $DC docker://$A/$N/app:v1 docker://$A/$N/app:v2",
            ),
            (
                CopyBetween,
                "skopeo copy -q $S $D $SC $DC docker://$A/$N/app:v1 docker://$A/$N/other:v1",
            ),
            (Index, "skopeo copy -q --all $D $DC oci:layout docker://$A/$N/all:v1"),
            (
                Large,
                "skopeo copy -q $D $DC oci:large:v1 docker://$A/$N/large:v1 && skopeo copy -q $S $SC docker://$A/$N/large:v1 dir:back-large && cmp large.tar back-large/$(sha256sum large.tar | cut -d' ' -f1)",
            ),
            (
                Interrupted,
                "struck skopeo copy -q --retry-times 5 $D $DC oci:large:v1 docker://$A/$N/struck:v1 && skopeo inspect --raw $P $C docker://$A/$N/struck:v1",
            ),
            (
                Delete,
                "skopeo delete $P $C docker://$A/$N/other:v1 && ! skopeo inspect $P $C docker://$A/$N/other:v1",
            ),
        ],
        note: "It reads podman's login, else docker's.",
    },
    Client {
        name: "crane",
        plain: ("--insecure", true),
        certificate: None,
        prepare: "",
        steps: &[
            (Login, "crane $P auth login $A -u khulnasoft-token -p $T"),
            (Push, "crane $P append -f layer.tar -t $A/$N/app:v1"),
            (Pull, "crane $P pull $A/$N/app:v1 pulled.tar"),
            (
                List,
                "crane $P ls $A/$N/app | grep -x v1 >/dev/null && crane $P catalog $A | grep -x $N/app >/dev/null",
            ),
            (
                Tag,
                "crane $P tag $A/$N/app:v1 v2 && test $(crane $P digest $A/$N/app:v1) = $(crane $P digest $A/$N/app:v2)",
            ),
            (CopyWithin, "crane $P copy $A/$N/app:v1 $A/$N/app:v3"),
            (
                CopyBetween,
                "crane $P copy $A/$N/app:v1 $A/$N/other:v1 && test $(crane $P digest $A/$N/app:v1) = $(crane $P digest $A/$N/other:v1)",
            ),
            (
                Index,
                "crane $P index append -m $A/base:v1 -m $A/$N/app:v1 -t $A/$N/list:v1 && crane $P manifest $A/$N/list:v1 | jq -e '.manifests | length == 2'",
            ),
            (
                Large,
                "crane $P append -f large.tar -t $A/$N/large:v1 && crane $P export $A/$N/large:v1 - | tar xO | cmp - noise",
            ),
            (
                Interrupted,
                "struck crane $P append -f large.tar -t $A/$N/struck:v1 && crane $P digest $A/$N/struck:v1",
            ),
            (
                Delete,
                "crane $P delete $A/$N/other@$(crane $P digest $A/$N/other:v1) && ! crane $P digest $A/$N/other:v1",
            ),
        ],
        note: "Over HTTPS it reads the certificate from `SSL_CERT_FILE` alone: `eval \"$(kdk env)\"`.",
    },
    Client {
        name: "regctl",
        plain: ("tls=disabled", false),
        certificate: Some("cacert"),
        prepare: "regctl registry set $A ${P:+--tls disabled} ${C:+--cacert \"$(cat $CERT)\"} >/dev/null 2>&1",
        steps: &[
            (
                Login,
                "echo $T | regctl registry login $A -u khulnasoft-token --pass-stdin",
            ),
            (Push, "echo hello | regctl artifact put $A/$N/art:v1"),
            (Pull, "regctl artifact get $A/$N/art:v1 | grep -x hello >/dev/null"),
            (
                List,
                "regctl tag ls $A/$N/art | grep -x v1 >/dev/null && regctl repo ls $A | grep -x $N/art >/dev/null",
            ),
            (CopyWithin, "regctl image copy $A/$N/art:v1 $A/$N/art:v2"),
            (
                CopyBetween,
                "regctl image copy $A/base:v1 $A/$N/app:v1 && test $(regctl image digest $A/base:v1) = $(regctl image digest $A/$N/app:v1)",
            ),
            (Index, "regctl index create $A/$N/list:v1 --ref $A/$N/app:v1"),
            (
                Artifact,
                "echo note | regctl artifact put --subject $A/$N/app:v1 --artifact-type application/x-note",
            ),
            (
                Referrers,
                "regctl artifact list $A/$N/app:v1 --format '{{json .}}' | jq -e '.descriptors | length == 1'",
            ),
            (
                Large,
                "regctl image copy ocidir://large:v1 $A/$N/large:v1 && regctl blob get $A/$N/large $(regctl manifest get $A/$N/large:v1 --format '{{json .}}' | jq -r '.layers[0].digest') | cmp - large.tar",
            ),
            (
                Interrupted,
                "struck regctl image copy ocidir://large:v1 $A/$N/struck:v1 && regctl image digest $A/$N/struck:v1",
            ),
            (
                Delete,
                "regctl tag delete $A/$N/art:v2 && ! regctl tag ls $A/$N/art | grep -x v2 >/dev/null",
            ),
        ],
        note: "It keeps how a registry is reached in a file of its own: `regctl registry set --tls disabled ADDRESS` over plain HTTP.",
    },
    Client {
        name: "oras",
        plain: ("--plain-http", false),
        certificate: Some("--ca-file $CERT"),
        prepare: "",
        steps: &[
            (
                Login,
                "echo $T | oras login $P $C $A -u khulnasoft-token --password-stdin",
            ),
            (Push, "oras push $P $C $A/$N/art:v1 hello.txt:text/plain"),
            (
                Pull,
                "oras pull $P $C -o out $A/$N/art:v1 && cmp hello.txt out/hello.txt",
            ),
            (
                List,
                "oras repo tags $P $C $A/$N/art | grep -x v1 >/dev/null && oras repo ls $P $C $A | grep -x $N/art >/dev/null",
            ),
            (Tag, "oras tag $P $C $A/$N/art:v1 v2"),
            (
                CopyBetween,
                "oras cp ${P:+--from-plain-http --to-plain-http} ${C:+--from-ca-file $CERT --to-ca-file $CERT} $A/$N/art:v1 $A/$N/other:v1",
            ),
            (
                Index,
                "oras manifest index create $P $C $A/$N/list:v1 $A/$N/list@$(oras cp ${P:+--from-plain-http --to-plain-http} ${C:+--from-ca-file $CERT --to-ca-file $CERT} $A/base:v1 $A/$N/list:one >/dev/null; oras resolve $P $C $A/$N/list:one)",
            ),
            (
                Artifact,
                "oras attach $P $C --artifact-type application/x-note $A/$N/art:v1 hello.txt:text/plain",
            ),
            (
                Referrers,
                "oras discover $P $C --format json $A/$N/art:v1 | jq -e '(.referrers // .manifests) | length >= 1'",
            ),
            (
                Large,
                "oras push $P $C $A/$N/large:v1 large.tar && oras pull $P $C -o back $A/$N/large:v1 && cmp large.tar back/large.tar",
            ),
            (
                Interrupted,
                "{ struck oras push $P $C $A/$N/struck:v1 large.tar || oras push $P $C $A/$N/struck:v1 large.tar; } && oras resolve $P $C $A/$N/struck:v1",
            ),
            (
                Delete,
                "oras manifest delete -f $P $C $A/$N/other:v1 && ! oras resolve $P $C $A/$N/other:v1",
            ),
        ],
        note: "It reads docker's login. A push during which the registry is restarted it may give up; push again.",
    },
    Client {
        name: "helm",
        plain: ("--plain-http", false),
        certificate: Some("--ca-file $CERT"),
        prepare: "[ -d chart ] || helm create chart >/dev/null; helm package chart >/dev/null",
        steps: &[
            (
                Login,
                "echo $T | helm registry login $P $C $A -u khulnasoft-token --password-stdin",
            ),
            (Push, "helm push $P $C chart-0.1.0.tgz oci://$A/$N"),
            (
                Pull,
                "mkdir -p got && helm pull $P $C oci://$A/$N/chart --version 0.1.0 -d got && cmp got/chart-0.1.0.tgz chart-0.1.0.tgz",
            ),
            (
                List,
                "helm show chart $P $C oci://$A/$N/chart | grep 'version: 0.1.0' >/dev/null",
            ),
        ],
        note: "It reads docker's login where it has none of its own.",
    },
    Client {
        name: "cosign",
        plain: ("--allow-http-registry", true),
        certificate: Some("--registry-cacert $CERT"),
        prepare: "export COSIGN_PASSWORD=; [ -f cosign.key ] || cosign generate-key-pair >/dev/null 2>&1; [ -f signing.json ] || cosign signing-config create > signing.json; skopeo copy -q ${INSECURE/--/--dest-} ${C:+--dest-cert-dir $CERTS} --dest-creds x:$T oci:layout:image docker://$A/$N/app:v1; DIGEST=$(skopeo inspect $INSECURE ${C:+--cert-dir $CERTS} --creds x:$T --format '{{.Digest}}' docker://$A/$N/app:v1)",
        steps: &[
            (Login, "cosign login $A -u khulnasoft-token -p $T"),
            (
                Sign,
                "cosign sign --yes $P $C --key cosign.key --signing-config signing.json $A/$N/app@$DIGEST",
            ),
            (
                Verify,
                "cosign verify $P $C --key cosign.pub --insecure-ignore-tlog --private-infrastructure $A/$N/app@$DIGEST",
            ),
            (
                Attest,
                "echo '{\"a\":1}' > predicate.json && cosign attest --yes $P $C --key cosign.key --signing-config signing.json --predicate predicate.json $A/$N/app@$DIGEST && cosign verify-attestation $P $C --key cosign.pub --insecure-ignore-tlog --private-infrastructure $A/$N/app@$DIGEST",
            ),
            (Referrers, "cosign tree $P $C $A/$N/app@$DIGEST"),
        ],
        note: "It reads docker's login. The lines sign with a key of one's own, without a transparency log.",
    },
    Client {
        name: "cosign2",
        plain: ("--allow-http-registry --allow-insecure-registry", true),
        certificate: Some("--registry-cacert $CERT"),
        prepare: "export COSIGN_PASSWORD=; [ -f cosign.key ] || cosign2 generate-key-pair >/dev/null 2>&1; skopeo copy -q ${INSECURE/--/--dest-} ${C:+--dest-cert-dir $CERTS} --dest-creds x:$T oci:layout:image docker://$A/$N/app:v1; DIGEST=$(skopeo inspect $INSECURE ${C:+--cert-dir $CERTS} --creds x:$T --format '{{.Digest}}' docker://$A/$N/app:v1)",
        steps: &[
            (Login, "cosign2 login $A -u khulnasoft-token -p $T"),
            (
                Sign,
                "cosign2 sign --yes $P $C --key cosign.key --tlog-upload=false $A/$N/app@$DIGEST",
            ),
            (
                Verify,
                "cosign2 verify $P $C --key cosign.pub --insecure-ignore-tlog --private-infrastructure $A/$N/app@$DIGEST",
            ),
            (
                Attest,
                "echo '{\"a\":1}' > predicate.json && cosign2 attest --yes $P $C --key cosign.key --tlog-upload=false --predicate predicate.json $A/$N/app@$DIGEST && cosign2 verify-attestation $P $C --key cosign.pub --insecure-ignore-tlog --private-infrastructure $A/$N/app@$DIGEST",
            ),
        ],
        note: "cosign 2.6, for those who still sign with it.",
    },
    Client {
        name: "ko",
        plain: ("--insecure-registry", true),
        certificate: None,
        prepare: "mkdir -p app; printf 'package main\\nfunc main() {}\\n' > app/main.go; [ -f app/go.mod ] || (cd app && go mod init example.test/app >/dev/null 2>&1); export KO_DEFAULTBASEIMAGE=$A/base:v1",
        steps: &[
            (Login, "ko login $A -u khulnasoft-token -p $T"),
            (
                Push,
                "cd app && KO_DOCKER_REPO=$A/$N ko build $P --platform=all --sbom=none .",
            ),
        ],
        note: "Over HTTPS it reads the certificate from `SSL_CERT_FILE` alone: `eval \"$(kdk env)\"`.",
    },
    Client {
        name: "ctr",
        plain: ("--plain-http", false),
        certificate: Some("--tlscacert $CERT"),
        prepare: "alias ctr=\"ctr -a $PWD/c.sock\"; shopt -s expand_aliases; [ -S c.sock ] || { printf 'version = 2\\nroot = \"%s/c/root\"\\nstate = \"%s/c/state\"\\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\\n[grpc]\\naddress = \"%s/c.sock\"\\n' $PWD $PWD $PWD > c.toml; setsid containerd -c c.toml >c.log 2>&1 & for i in $(seq 100); do [ -S c.sock ] && break; sleep 0.1; done; }",
        steps: &[
            (
                Pull,
                "ctr images pull --snapshotter native $P $C --user x:$T $A/base:v1",
            ),
            (
                Push,
                "ctr images tag --force $A/base:v1 $A/$N/app:v1 && ctr images push $P $C --user x:$T $A/$N/app:v1",
            ),
        ],
        note: "containerd keeps no login: name and token go with each call.",
    },
    Client {
        name: "buildctl",
        plain: ("registry.insecure=true", true),
        certificate: None,
        prepare: "mkdir -p $HOME/.docker && printf '{\"auths\":{\"%s\":{\"auth\":\"%s\"}}}' $A $(printf x:$T | base64 -w0) > $HOME/.docker/config.json; export BUILDKIT_HOST=unix://$PWD/b.sock; [ -S b.sock ] || { for a in 127.0.0.1 registry.test kdk.test; do printf '[registry.\"%s:5000\"]\\n%s\\n' $a \"${P:+http = true}\"; done > b.toml; setsid buildkitd --config b.toml --addr unix://$PWD/b.sock --root $PWD/bk --oci-worker-snapshotter=native >b.log 2>&1 & for i in $(seq 100); do buildctl debug workers >/dev/null 2>&1 && break; sleep 0.1; done; }",
        steps: &[
            (
                Push,
                "buildctl build --frontend dockerfile.v0 --local context=context --local dockerfile=context --output type=image,name=$A/$N/app:v1,push=true${P:+,$P}",
            ),
            (
                Pull,
                "mkdir -p from && echo FROM $A/base:v1 > from/Dockerfile && buildctl build --frontend dockerfile.v0 --no-cache --local context=from --local dockerfile=from --output type=oci,dest=built.tar && test -s built.tar",
            ),
            (
                Index,
                "buildctl build --frontend dockerfile.v0 --opt platform=linux/amd64,linux/arm64 --local context=context --local dockerfile=context --output type=image,name=$A/$N/all:v1,push=true${P:+,$P} && skopeo inspect --raw $INSECURE docker://$A/$N/all:v1 | jq -e '.manifests | length >= 2'",
            ),
        ],
        note: "BuildKit reads docker's login. On another address than loopback its daemon must be told in `buildkitd.toml` of plain HTTP (`http = true`); over HTTPS it reads the certificate from `SSL_CERT_FILE`, or from `ca` in `buildkitd.toml`.",
    },
    Client {
        name: "buildx",
        plain: ("registry.insecure=true", true),
        certificate: None,
        prepare: "mkdir -p $HOME/.docker && printf '{\"auths\":{\"%s\":{\"auth\":\"%s\"}}}' $A $(printf x:$T | base64 -w0) > $HOME/.docker/config.json; export BUILDKIT_HOST=unix://$PWD/b.sock; [ -S b.sock ] || { for a in 127.0.0.1 registry.test kdk.test; do printf '[registry.\"%s:5000\"]\\n%s\\n' $a \"${P:+http = true}\"; done > b.toml; setsid buildkitd --config b.toml --addr unix://$PWD/b.sock --root $PWD/bk --oci-worker-snapshotter=native >b.log 2>&1 & for i in $(seq 100); do buildctl debug workers >/dev/null 2>&1 && break; sleep 0.1; done; }; buildx create --name kdk --driver remote unix://$PWD/b.sock >/dev/null 2>&1",
        steps: &[
            (
                Push,
                "buildx build --builder kdk --output type=image,name=$A/$N/app:v1,push=true${P:+,$P} context",
            ),
            (
                Pull,
                "mkdir -p from && echo FROM $A/base:v1 > from/Dockerfile && buildx build --builder kdk --no-cache --output type=oci,dest=built.tar from && test -s built.tar",
            ),
            (
                Index,
                "buildx build --builder kdk --platform linux/amd64,linux/arm64 --output type=image,name=$A/$N/all:v1,push=true${P:+,$P} context && skopeo inspect --raw $INSECURE docker://$A/$N/all:v1 | jq -e '.manifests | length >= 2'",
            ),
        ],
        note: "It reads docker's login, and builds with BuildKit's daemon, of which the same is true as for buildctl.",
    },
];
