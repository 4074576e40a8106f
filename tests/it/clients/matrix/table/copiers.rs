//! Clients that copy, list and delete images and artifacts.

use super::Client;
use super::Operation::{
    Artifact, Attest, CopyBetween, CopyWithin, Delete, Index, Interrupted, Large, List, Login, Parallel, Pull, Push,
    Referrers, Sign, Tag, Verify,
};

pub const SKOPEO: Client = Client {
    name: "skopeo",
    plain: ("--tls-verify=false", false),
    certificate: Some("--cert-dir $CERTS"),
    prepare: "S=${P/--/--src-}; D=${P/--/--dest-}; SC=${C/--/--src-}; DC=${C/--/--dest-}",
    steps: &[
        (
            Login,
            "echo $T | skopeo login $P $C -u khulnasoft-token --password-stdin $A",
        ),
        (
            Push,
            "skopeo copy -q $D $DC --digestfile pushed.txt oci:layout:image docker://$A/$N/app:v1 && pushed $A/$N/app:v1 $(cat pushed.txt) && whole $A/$N/app:v1",
        ),
        (
            Pull,
            "rm -rf back && skopeo copy -q $S $SC docker://$A/$N/app:v1 oci:back:image && pushed $A/$N/app:v1 $(jq -r .manifests[0].digest back/index.json)",
        ),
        (List, "skopeo list-tags $P $C docker://$A/$N/app | grep v1 >/dev/null"),
        (
            CopyWithin,
            "skopeo copy -q $S $D $SC $DC docker://$A/$N/app:v1 docker://$A/$N/app:v2 && same $A/$N/app:v1 $A/$N/app:v2",
        ),
        (
            CopyBetween,
            "skopeo copy -q $S $D $SC $DC docker://$A/$N/app:v1 docker://$A/$N/other:v1 && same $A/$N/app:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "skopeo copy -q --all $S $D $SC $DC docker://$A/multi:v1 docker://$A/$N/all:v1 && skopeo copy -q --all $S $D $SC $DC docker://$A/$N/all:v1 docker://$A/$N/all:v2 && same $A/$N/all:v1 $A/$N/all:v2 && whole $A/$N/all:v2",
        ),
        (
            Large,
            "skopeo copy -q $D $DC oci:../large/layout:image docker://$A/$N/large:v1 && rm -rf back-large && skopeo copy -q $S $SC docker://$A/$N/large:v1 oci:back-large:image && pushed $A/$N/large:v1 $(jq -r .manifests[0].digest back-large/index.json)",
        ),
        (
            Interrupted,
            "struck_again 'skopeo copy -q --retry-times 5 $D $DC oci:../struck/layout:image docker://$A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'skopeo copy -q $D $DC oci:layout:image docker://$A/$N/many:v$i' $A/$N/many",
        ),
        (
            Delete,
            "skopeo delete $P $C docker://$A/$N/other:v1 && ! skopeo inspect $P $C docker://$A/$N/other:v1",
        ),
    ],
    lacks: &[Tag, Artifact, Referrers, Sign, Verify, Attest],
    faults: &[],
    note: "It reads podman's login, else docker's.",
};

pub const CRANE: Client = Client {
    name: "crane",
    plain: ("--insecure", true),
    certificate: None,
    prepare: "",
    steps: &[
        (Login, "crane $P auth login $A -u khulnasoft-token -p $T"),
        (
            Push,
            "crane $P append -f layer.tar -t $A/$N/app:v1 && pushed $A/$N/app:v1 $(crane $P digest $A/$N/app:v1) && whole $A/$N/app:v1",
        ),
        (
            Pull,
            "rm -rf pulled && crane $P pull --format oci $A/$N/app:v1 pulled && pushed $A/$N/app:v1 $(jq -r .manifests[0].digest pulled/index.json)",
        ),
        (
            List,
            "crane $P ls $A/$N/app | grep -x v1 >/dev/null && crane $P catalog $A | grep -x $N/app >/dev/null",
        ),
        (Tag, "crane $P tag $A/$N/app:v1 v2 && same $A/$N/app:v1 $A/$N/app:v2"),
        (
            CopyWithin,
            "crane $P copy $A/$N/app:v1 $A/$N/app:v3 && same $A/$N/app:v1 $A/$N/app:v3",
        ),
        (
            CopyBetween,
            "crane $P copy $A/$N/app:v1 $A/$N/other:v1 && same $A/$N/app:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "crane $P index append -m $A/base:v1 -m $A/$N/app:v1 -t $A/$N/list:v1 && crane $P manifest $A/$N/list:v1 | jq -e '.manifests | length == 2' && whole $A/$N/list:v1",
        ),
        (
            Large,
            "crane $P push ../large/layout $A/$N/large:v1 && crane $P export $A/$N/large:v1 - | tar xO | cmp - ../large/context/noise",
        ),
        (
            Interrupted,
            "struck_again 'crane $P push ../struck/layout $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'crane $P mutate --label n=$i -t $A/$N/many:v$i $A/$N/app:v1' $A/$N/many",
        ),
        (
            Delete,
            "crane $P delete $A/$N/other@$(crane $P digest $A/$N/other:v1) && ! crane $P digest $A/$N/other:v1",
        ),
    ],
    lacks: &[Artifact, Referrers, Sign, Verify, Attest],
    faults: &[],
    note: "Over HTTPS it reads the certificate from `SSL_CERT_FILE` alone: `eval \"$(kdk env)\"`.",
};

pub const REGCTL: Client = Client {
    name: "regctl",
    plain: ("tls=disabled", false),
    certificate: Some("cacert"),
    prepare: "",
    steps: &[
        (
            Login,
            "regctl registry set $A --skip-check ${P:+--tls disabled} ${C:+--cacert \"$(cat $CERT)\"} && echo $T | regctl registry login $A -u khulnasoft-token --pass-stdin",
        ),
        (
            Push,
            "echo hello | regctl artifact put $A/$N/art:v1 && pushed $A/$N/art:v1 $(regctl manifest head $A/$N/art:v1) && whole $A/$N/art:v1",
        ),
        (Pull, "regctl artifact get $A/$N/art:v1 | grep -x hello >/dev/null"),
        (
            List,
            "regctl tag ls $A/$N/art | grep -x v1 >/dev/null && regctl repo ls $A | grep -x $N/art >/dev/null",
        ),
        (
            CopyWithin,
            "regctl image copy $A/$N/art:v1 $A/$N/art:v2 && same $A/$N/art:v1 $A/$N/art:v2",
        ),
        (
            CopyBetween,
            "regctl image copy $A/base:v1 $A/$N/app:v1 && same $A/base:v1 $A/$N/app:v1 && whole $A/$N/app:v1",
        ),
        (
            Index,
            "regctl index create $A/$N/list:v1 --ref $A/$N/app:v1 && whole $A/$N/list:v1",
        ),
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
            "regctl image copy ocidir://../large/layout:image $A/$N/large:v1 && regctl blob get $A/$N/large $(regctl manifest get $A/$N/large:v1 --format '{{json .}}' | jq -r '.layers[0].digest') | tar xO | cmp - ../large/context/noise",
        ),
        (
            Interrupted,
            "regctl registry set $A --skip-check --blob-chunk 10000000 --blob-max 10000000 && { struck 'regctl artifact put -f ../struck/context/noise $A/$N/struck:v1' || struck 'regctl artifact put -f ../struck/context/noise $A/$N/struck:v1' || struck 'regctl artifact put -f ../struck/context/noise $A/$N/struck:v1'; } && resumed && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'echo $i | regctl artifact put $A/$N/many:v$i' $A/$N/many",
        ),
        (
            Delete,
            "regctl tag delete $A/$N/art:v2 && ! regctl tag ls $A/$N/art | grep -x v2 >/dev/null",
        ),
    ],
    lacks: &[Tag, Sign, Verify, Attest],
    faults: &[],
    note: "It keeps how a registry is reached in a file of its own, which `regctl registry set` writes once.",
};

pub const ORAS: Client = Client {
    name: "oras",
    plain: ("--plain-http", false),
    certificate: Some("--ca-file $CERT"),
    prepare: "",
    steps: &[
        (
            Login,
            "echo $T | oras login $P $C $A -u khulnasoft-token --password-stdin",
        ),
        (
            Push,
            "oras push $P $C $A/$N/art:v1 hello.txt:text/plain && pushed $A/$N/art:v1 $(oras resolve $P $C $A/$N/art:v1) && whole $A/$N/art:v1",
        ),
        (
            Pull,
            "oras pull $P $C -o out $A/$N/art:v1 && cmp hello.txt out/hello.txt",
        ),
        (
            List,
            "oras repo tags $P $C $A/$N/art | grep -x v1 >/dev/null && oras repo ls $P $C $A | grep -x $N/art >/dev/null",
        ),
        (Tag, "oras tag $P $C $A/$N/art:v1 v2 && same $A/$N/art:v1 $A/$N/art:v2"),
        (
            CopyWithin,
            "oras cp ${P:+--from-plain-http --to-plain-http} ${C:+--from-ca-file $CERT --to-ca-file $CERT} $A/$N/art:v1 $A/$N/art:v3 && same $A/$N/art:v1 $A/$N/art:v3",
        ),
        (
            CopyBetween,
            "oras cp ${P:+--from-plain-http --to-plain-http} ${C:+--from-ca-file $CERT --to-ca-file $CERT} $A/$N/art:v1 $A/$N/other:v1 && same $A/$N/art:v1 $A/$N/other:v1 && whole $A/$N/other:v1",
        ),
        (
            Index,
            "oras cp ${P:+--from-plain-http --to-plain-http} ${C:+--from-ca-file $CERT --to-ca-file $CERT} $A/base:v1 $A/$N/list:one && oras manifest index create $P $C $A/$N/list:v1 one && whole $A/$N/list:v1",
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
            "oras cp --from-oci-layout ${P:+--to-plain-http} ${C:+--to-ca-file $CERT} ../large/layout:image $A/$N/large:v1 && rm -rf back-large && oras cp --to-oci-layout ${P:+--from-plain-http} ${C:+--from-ca-file $CERT} $A/$N/large:v1 back-large:image && pushed $A/$N/large:v1 $(jq -r .manifests[0].digest back-large/index.json)",
        ),
        (
            Interrupted,
            "struck_again 'oras cp --from-oci-layout ${P:+--to-plain-http} ${C:+--to-ca-file $CERT} ../struck/layout:image $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'echo $i > $i.txt; oras push $P $C $A/$N/many:v$i $i.txt' $A/$N/many",
        ),
        (
            Delete,
            "oras manifest delete -f $P $C $A/$N/other:v1 && ! oras resolve $P $C $A/$N/other:v1",
        ),
    ],
    lacks: &[Sign, Verify, Attest],
    faults: &[],
    note: "It reads docker's login.",
};

pub const HELM: Client = Client {
    name: "helm",
    plain: ("--plain-http", false),
    certificate: Some("--ca-file $CERT"),
    prepare: "[ -d chart ] || helm create chart >/dev/null; helm package chart >/dev/null",
    steps: &[
        (
            Login,
            "echo $T | helm registry login $P $C $A -u khulnasoft-token --password-stdin",
        ),
        (
            Push,
            "helm push $P $C chart-0.1.0.tgz oci://$A/$N && whole $A/$N/chart:0.1.0",
        ),
        (
            Pull,
            "mkdir -p got && helm pull $P $C oci://$A/$N/chart --version 0.1.0 -d got && cmp got/chart-0.1.0.tgz chart-0.1.0.tgz",
        ),
        (
            List,
            "helm show chart $P $C oci://$A/$N/chart | grep 'version: 0.' >/dev/null",
        ),
        (
            Parallel,
            "ten 'helm package chart --version 0.2.$i && helm push $P $C chart-0.2.$i.tgz oci://$A/$N' $A/$N/chart",
        ),
    ],
    lacks: &[
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
        Delete,
    ],
    faults: &[],
    note: "It reads docker's login where it has none of its own.",
};
