//! Engines and what builds for them.

use super::super::Setup;
use super::Client;
use super::Operation::{
    Artifact, Attest, CopyBetween, CopyWithin, Delete, Index, Interrupted, Large, List, Login, Parallel, Pull, Push,
    Referrers, Sign, Tag, Verify,
};

pub const DOCKER: Client = Client {
    name: "docker",
    plain: ("", true),
    certificate: Some(""),
    prepare: "",
    steps: &[
        (Login, "echo $T | docker login $A -u khulnasoft-token --password-stdin"),
        (
            Push,
            "docker build -q -t $A/$N/app:v1 context && docker push -q $A/$N/app:v1 && whole $A/$N/app:v1",
        ),
        (
            Pull,
            "docker rmi -f $A/$N/app:v1 && docker pull -q $A/$N/app:v1 && pushed $A/$N/app:v1 $(docker inspect --format \"{{index .RepoDigests 0}}\" $A/$N/app:v1 | cut -d@ -f2)",
        ),
        (
            Tag,
            "docker tag $A/$N/app:v1 $A/$N/app:v2 && docker push -q $A/$N/app:v2 && same $A/$N/app:v1 $A/$N/app:v2",
        ),
        (
            CopyWithin,
            "docker tag $A/$N/app:v1 $A/$N/app:v3 && docker push -q $A/$N/app:v3 && same $A/$N/app:v1 $A/$N/app:v3",
        ),
        (
            CopyBetween,
            "docker tag $A/$N/app:v1 $A/$N/other:v1 && docker push -q $A/$N/other:v1 && same $A/$N/app:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "docker manifest create ${INSECURE:+--insecure} --amend $A/$N/list:v1 $A/$N/app:v1 && docker manifest push ${INSECURE:+--insecure} $A/$N/list:v1 && whole $A/$N/list:v1",
        ),
        (
            Large,
            "docker build -q -t $A/$N/large:v1 ../large/context && docker push -q $A/$N/large:v1 && docker rmi -f $A/$N/large:v1 && docker pull -q $A/$N/large:v1 && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "docker build -q -t $A/$N/struck:v1 ../struck/context && struck 'docker push -q $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'docker build -q --label n=$i -t $A/$N/many:v$i context && docker push -q $A/$N/many:v$i' $A/$N/many",
        ),
    ],
    lacks: &[List, Artifact, Referrers, Sign, Verify, Attest, Delete],
    faults: &[],
    note: "On another address than loopback the daemon must be told of plain HTTP: `insecure-registries` in `/etc/docker/daemon.json`. Over HTTPS `kdk trust-docker-registry` puts the certificate where the Engine looks.",
};

pub const PODMAN: Client = Client {
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
            "podman push -q $P $C --digestfile pushed.txt $A/base:v1 $A/$N/app:v1 && pushed $A/$N/app:v1 $(cat pushed.txt) && whole $A/$N/app:v1",
        ),
        (List, "podman search $P $C --list-tags $A/$N/app | grep v1 >/dev/null"),
        (
            Tag,
            "podman tag $A/base:v1 $A/$N/app:v2 && podman push -q $P $C $A/$N/app:v2 && same $A/$N/app:v1 $A/$N/app:v2",
        ),
        (
            CopyWithin,
            "podman push -q $P $C $A/base:v1 $A/$N/app:v3 && same $A/$N/app:v1 $A/$N/app:v3",
        ),
        (
            CopyBetween,
            "podman push -q $P $C $A/base:v1 $A/$N/other:v1 && same $A/$N/app:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "podman manifest create list$$ && podman manifest add $P $C list$$ docker://$A/$N/app:v1 && podman manifest push -q $P $C list$$ docker://$A/$N/list:v1 && whole $A/$N/list:v1",
        ),
        (
            Large,
            "podman build -q --isolation chroot -t $A/$N/large:v1 ../large/context && podman push -q $P $C $A/$N/large:v1 && podman rmi $A/$N/large:v1 && podman pull -q $P $C $A/$N/large:v1 && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "podman build -q --isolation chroot -t $A/$N/struck:v1 ../struck/context && struck_again 'podman push -q $P $C $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'podman push -q $P $C $A/base:v1 $A/$N/many:v$i' $A/$N/many",
        ),
    ],
    lacks: &[Artifact, Referrers, Sign, Verify, Attest, Delete],
    faults: &[(List, Setup::HttpsOption, "unknown flag: --cert-dir")],
    note: "`kdk login --client podman` offers the drop-in `registries.conf.d/kdk.conf`, so that it needs no flag over plain HTTP.",
};

pub const BUILDAH: Client = Client {
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
            "buildah bud -q --isolation chroot -t $A/$N/app:v1 context && buildah push -q $P $C --digestfile pushed.txt $A/$N/app:v1 && pushed $A/$N/app:v1 $(cat pushed.txt) && whole $A/$N/app:v1",
        ),
        (Pull, "buildah rmi $A/$N/app:v1 && buildah pull -q $P $C $A/$N/app:v1"),
        (
            Tag,
            "buildah tag $A/$N/app:v1 $A/$N/app:v2 && buildah push -q $P $C $A/$N/app:v2 && same $A/$N/app:v1 $A/$N/app:v2",
        ),
        (
            CopyWithin,
            "buildah push -q $P $C $A/$N/app:v1 $A/$N/app:v3 && same $A/$N/app:v1 $A/$N/app:v3",
        ),
        (
            CopyBetween,
            "buildah push -q $P $C $A/$N/app:v1 $A/$N/other:v1 && same $A/$N/app:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "buildah manifest create list$$ && buildah manifest add $P $C list$$ docker://$A/$N/app:v1 && buildah manifest push -q --all $P $C list$$ docker://$A/$N/list:v1 && whole $A/$N/list:v1",
        ),
        (
            Large,
            "printf 'FROM scratch\\nCOPY noise /buildah\\n' > own && buildah bud -q --isolation chroot -f own -t $A/$N/large:v1 ../large/context && buildah push -q $P $C $A/$N/large:v1 && buildah rmi $A/$N/large:v1 && buildah pull -q $P $C $A/$N/large:v1 && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "printf 'FROM scratch\\nCOPY noise /buildah\\n' > own && buildah bud -q --isolation chroot -f own -t $A/$N/struck:v1 ../struck/context && struck_again 'buildah push -q $P $C $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'buildah push -q $P $C $A/$N/app:v1 $A/$N/many:v$i' $A/$N/many",
        ),
    ],
    lacks: &[List, Artifact, Referrers, Sign, Verify, Attest, Delete],
    faults: &[],
    note: "It reads podman's login and its drop-in.",
};

pub const CTR: Client = Client {
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
            "ctr images tag --force $A/base:v1 $A/$N/app:v1 && ctr images push $P $C --user x:$T $A/$N/app:v1 && same $A/base:v1 $A/$N/app:v1 && whole $A/$N/app:v1",
        ),
        (
            Tag,
            "ctr images tag --force $A/base:v1 $A/$N/app:v2 && ctr images push $P $C --user x:$T $A/$N/app:v2 && same $A/$N/app:v1 $A/$N/app:v2",
        ),
        (
            CopyWithin,
            "ctr images tag --force $A/base:v1 $A/$N/app:v3 && ctr images push $P $C --user x:$T $A/$N/app:v3 && same $A/$N/app:v1 $A/$N/app:v3",
        ),
        (
            CopyBetween,
            "ctr images tag --force $A/base:v1 $A/$N/other:v1 && ctr images push $P $C --user x:$T $A/$N/other:v1 && same $A/base:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "ctr images pull --snapshotter native --all-platforms $P $C --user x:$T $A/multi:v1 && ctr images tag --force $A/multi:v1 $A/$N/all:v1 && ctr images push $P $C --user x:$T $A/$N/all:v1 && same $A/multi:v1 $A/$N/all:v1 && whole $A/$N/all:v1",
        ),
        (
            Large,
            "tar c -C ../large/layout . | ctr images import --no-unpack --base-name $A/$N/large - && ctr images push $P $C --user x:$T $A/$N/large:image && whole $A/$N/large:image",
        ),
        (
            Interrupted,
            "tar c -C ../struck/layout . | ctr images import --no-unpack --base-name $A/$N/struck - && struck_again 'ctr images push $P $C --user x:$T $A/$N/struck:image' && whole $A/$N/struck:image",
        ),
        (
            Parallel,
            "ten 'ctr images tag --force $A/base:v1 $A/$N/many:v$i && ctr images push $P $C --user x:$T $A/$N/many:v$i' $A/$N/many",
        ),
    ],
    lacks: &[Login, List, Artifact, Referrers, Sign, Verify, Attest, Delete],
    faults: &[],
    note: "containerd keeps no login: name and token go with each call.",
};

pub const BUILDCTL: Client = Client {
    name: "buildctl",
    plain: ("registry.insecure=true", true),
    certificate: None,
    prepare: "mkdir -p $HOME/.docker && printf '{\"auths\":{\"%s\":{\"auth\":\"%s\"}}}' $A $(printf x:$T | base64 -w0) > $HOME/.docker/config.json; export BUILDKIT_HOST=unix://$PWD/b.sock; [ -S b.sock ] || { for a in 127.0.0.1 registry.test kdk.test; do printf '[registry.\"%s:5000\"]\\n%s\\n' $a \"${P:+http = true}\"; done > b.toml; setsid buildkitd --config b.toml --addr unix://$PWD/b.sock --root $PWD/bk --oci-worker-snapshotter=native >b.log 2>&1 & for i in $(seq 100); do buildctl debug workers >/dev/null 2>&1 && break; sleep 0.1; done; }",
    steps: &[
        (
            Push,
            "buildctl build --frontend dockerfile.v0 --local context=context --local dockerfile=context --output type=image,name=$A/$N/app:v1,push=true${P:+,$P} && whole $A/$N/app:v1",
        ),
        (
            Pull,
            "mkdir -p from && echo FROM $A/base:v1 > from/Dockerfile && buildctl build --frontend dockerfile.v0 --local context=from --local dockerfile=from --no-cache --output type=oci,dest=built.tar && test -s built.tar",
        ),
        (
            Tag,
            "buildctl build --frontend dockerfile.v0 --local context=context --local dockerfile=context --output type=image,\\\"name=$A/$N/app:v2,$A/$N/app:v3\\\",push=true${P:+,$P} && same $A/$N/app:v2 $A/$N/app:v3",
        ),
        (
            Index,
            "buildctl build --frontend dockerfile.v0 --local context=context --local dockerfile=context --opt platform=linux/amd64,linux/arm64 --output type=image,name=$A/$N/all:v1,push=true${P:+,$P} && skopeo inspect --raw $LOOK docker://$A/$N/all:v1 | jq -e '.manifests | length >= 2' && whole $A/$N/all:v1",
        ),
        (
            Large,
            "buildctl build --frontend dockerfile.v0 --local context=../large/context --local dockerfile=../large/context --output type=image,name=$A/$N/large:v1,push=true${P:+,$P} && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "struck_again 'buildctl build --frontend dockerfile.v0 --local context=../struck/context --local dockerfile=../struck/context --output type=image,name=$A/$N/struck:v1,push=true${P:+,$P}' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'buildctl build --frontend dockerfile.v0 --local context=context --local dockerfile=context --opt label:n=$i --output type=image,name=$A/$N/many:v$i,push=true${P:+,$P}' $A/$N/many",
        ),
    ],
    lacks: &[
        Login,
        List,
        CopyWithin,
        CopyBetween,
        Artifact,
        Referrers,
        Sign,
        Verify,
        Attest,
        Delete,
    ],
    faults: &[],
    note: "BuildKit reads docker's login. On another address than loopback its daemon must be told in `buildkitd.toml` of plain HTTP (`http = true`); over HTTPS it reads the certificate from `SSL_CERT_FILE`, or from `ca` in `buildkitd.toml`.",
};

pub const BUILDX: Client = Client {
    name: "buildx",
    plain: ("registry.insecure=true", true),
    certificate: None,
    prepare: "mkdir -p $HOME/.docker && printf '{\"auths\":{\"%s\":{\"auth\":\"%s\"}}}' $A $(printf x:$T | base64 -w0) > $HOME/.docker/config.json; export BUILDKIT_HOST=unix://$PWD/b.sock; [ -S b.sock ] || { for a in 127.0.0.1 registry.test kdk.test; do printf '[registry.\"%s:5000\"]\\n%s\\n' $a \"${P:+http = true}\"; done > b.toml; setsid buildkitd --config b.toml --addr unix://$PWD/b.sock --root $PWD/bk --oci-worker-snapshotter=native >b.log 2>&1 & for i in $(seq 100); do buildctl debug workers >/dev/null 2>&1 && break; sleep 0.1; done; }; buildx create --name kdk --driver remote unix://$PWD/b.sock >/dev/null 2>&1",
    steps: &[
        (
            Push,
            "buildx build --builder kdk --output type=image,name=$A/$N/app:v1,push=true${P:+,$P} context && whole $A/$N/app:v1",
        ),
        (
            Pull,
            "mkdir -p from && echo FROM $A/base:v1 > from/Dockerfile && buildx build --builder kdk --no-cache --output type=oci,dest=built.tar from && test -s built.tar",
        ),
        (
            Tag,
            "buildx imagetools create --builder kdk -t $A/$N/app:v2 $A/$N/app:v1 && same $A/$N/app:v1 $A/$N/app:v2",
        ),
        (
            CopyWithin,
            "buildx imagetools create --builder kdk -t $A/$N/app:v3 $A/$N/app:v1 && same $A/$N/app:v1 $A/$N/app:v3",
        ),
        (
            CopyBetween,
            "buildx imagetools create --builder kdk -t $A/$N/other:v1 $A/$N/app:v1 && same $A/$N/app:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "buildx build --builder kdk --platform linux/amd64,linux/arm64 --output type=image,name=$A/$N/all:v1,push=true${P:+,$P} context && skopeo inspect --raw $LOOK docker://$A/$N/all:v1 | jq -e '.manifests | length >= 2' && whole $A/$N/all:v1",
        ),
        (
            Large,
            "buildx build --builder kdk --output type=image,name=$A/$N/large:v1,push=true${P:+,$P} ../large/context && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "struck_again 'buildx build --builder kdk --output type=image,name=$A/$N/struck:v1,push=true${P:+,$P} ../struck/context' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'buildx build --builder kdk --label n=$i --output type=image,name=$A/$N/many:v$i,push=true${P:+,$P} context' $A/$N/many",
        ),
    ],
    lacks: &[Login, List, Artifact, Referrers, Sign, Verify, Attest, Delete],
    faults: &[
        (Tag, Setup::Http, "server gave HTTP response to HTTPS client"),
        (CopyWithin, Setup::Http, "server gave HTTP response to HTTPS client"),
        (CopyBetween, Setup::Http, "server gave HTTP response to HTTPS client"),
    ],
    note: "It reads docker's login, and builds with BuildKit's daemon, of which the same is true as for buildctl.",
};
