//! Clients that sign, and that publish what they compile.

use super::super::Setup;
use super::Client;
use super::Operation::{
    Artifact, Attest, CopyBetween, CopyWithin, Delete, Index, Interrupted, Large, List, Login, Parallel, Pull, Push,
    Referrers, Sign, Tag, Verify,
};

pub const COSIGN: Client = Client {
    name: "cosign",
    plain: ("--allow-http-registry", true),
    certificate: Some("--registry-cacert $CERT"),
    prepare: "export COSIGN_PASSWORD=; [ -f cosign.key ] || cosign generate-key-pair >/dev/null 2>&1; [ -f signing.json ] || cosign signing-config create > signing.json; skopeo copy -q ${INSECURE/--/--dest-} ${C:+--dest-cert-dir $CERTS} --dest-creds x:$T oci:layout:image docker://$A/$N/app:v1; DIGEST=$(skopeo inspect $INSECURE ${C:+--cert-dir $CERTS} --creds x:$T --format '{{.Digest}}' docker://$A/$N/app:v1)",
    steps: &[
        (Login, "cosign login $A -u khulnasoft-token -p $T"),
        (
            Push,
            "cosign upload blob $P $C -f hello.txt $A/$N/blob:v1 && whole $A/$N/blob:v1",
        ),
        (
            CopyBetween,
            "cosign copy $P $C $A/$N/app@$DIGEST $A/$N/copied:v1 && same $A/$N/app:v1 $A/$N/copied:v1 && whole $A/$N/copied:v1",
        ),
        (Referrers, "cosign tree $P $C $A/$N/app@$DIGEST"),
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
        (
            Large,
            "cosign upload blob $P $C -f ../large/context/noise $A/$N/large:v1 && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "struck_again 'cosign upload blob $P $C -f ../struck/context/noise $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'echo $i > $i.txt; cosign upload blob $P $C -f $i.txt $A/$N/many:v$i' $A/$N/many",
        ),
        (Delete, "cosign clean $P $C --force --type all $A/$N/app@$DIGEST"),
    ],
    lacks: &[Pull, List, Tag, CopyWithin, Index, Artifact],
    faults: &[(Delete, Setup::Http, "server gave HTTP response to HTTPS client")],
    note: "It reads docker's login. The lines sign with a key of one's own, without a transparency log.",
};

pub const COSIGN2: Client = Client {
    name: "cosign2",
    plain: ("--allow-http-registry --allow-insecure-registry", true),
    certificate: Some("--registry-cacert $CERT"),
    prepare: "export COSIGN_PASSWORD=; [ -f cosign.key ] || cosign2 generate-key-pair >/dev/null 2>&1; skopeo copy -q ${INSECURE/--/--dest-} ${C:+--dest-cert-dir $CERTS} --dest-creds x:$T oci:layout:image docker://$A/$N/app:v1; DIGEST=$(skopeo inspect $INSECURE ${C:+--cert-dir $CERTS} --creds x:$T --format '{{.Digest}}' docker://$A/$N/app:v1)",
    steps: &[
        (Login, "cosign2 login $A -u khulnasoft-token -p $T"),
        (
            Push,
            "cosign2 upload blob $P $C -f hello.txt $A/$N/blob:v1 && whole $A/$N/blob:v1",
        ),
        (
            CopyBetween,
            "cosign2 copy $P $C $A/$N/app@$DIGEST $A/$N/copied:v1 && same $A/$N/app:v1 $A/$N/copied:v1 && whole $A/$N/copied:v1",
        ),
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
        (
            Large,
            "cosign2 upload blob $P $C -f ../large/context/noise $A/$N/large:v1 && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "struck_again 'cosign2 upload blob $P $C -f ../struck/context/noise $A/$N/struck:v1' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "ten 'echo $i > $i.txt; cosign2 upload blob $P $C -f $i.txt $A/$N/many:v$i' $A/$N/many",
        ),
        (Delete, "cosign2 clean $P $C --force --type all $A/$N/app@$DIGEST"),
    ],
    lacks: &[Pull, List, Tag, CopyWithin, Index, Artifact, Referrers],
    faults: &[],
    note: "cosign 2.6, for those who still sign with it.",
};

pub const KO: Client = Client {
    name: "ko",
    plain: ("--insecure-registry", true),
    certificate: None,
    prepare: "mkdir -p app; printf 'package main\\nfunc main() {}\\n' > app/main.go; [ -f app/go.mod ] || (cd app && go mod init example.test/app >/dev/null 2>&1); export KO_DEFAULTBASEIMAGE=$A/base:v1",
    steps: &[
        (Login, "ko login $A -u khulnasoft-token -p $T"),
        (
            Push,
            "cd app && KO_DOCKER_REPO=$A/$N ko build $P --platform=all --sbom=none . > ../pushed.txt && whole $(cat ../pushed.txt)",
        ),
        (
            Tag,
            "cd app && KO_DOCKER_REPO=$A/$N/tagged ko build $P --bare --tags v1,v2 --platform=all --sbom=none . && same $A/$N/tagged:v1 $A/$N/tagged:v2",
        ),
        (
            Index,
            "cd app && KO_DEFAULTBASEIMAGE=$A/multi:v1 KO_DOCKER_REPO=$A/$N/all ko build $P --bare --tags v1 --platform=linux/amd64,linux/arm64 --sbom=none . && whole $A/$N/all:v1",
        ),
        (
            Large,
            "cp -r app large && mkdir large/kodata && ln -f ../large/context/noise large/kodata/noise && cd large && KO_DOCKER_REPO=$A/$N/large ko build $P --bare --tags v1 --platform=all --sbom=none . && whole $A/$N/large:v1",
        ),
        (
            Interrupted,
            "cp -r app struck && mkdir struck/kodata && ln -f ../struck/context/noise struck/kodata/noise && cd struck && struck_again 'KO_DOCKER_REPO=$A/$N/struck ko build $P --bare --tags v1 --platform=all --sbom=none .' && whole $A/$N/struck:v1",
        ),
        (
            Parallel,
            "cd app && ten 'KO_DOCKER_REPO=$A/$N/many ko build $P --bare --tags v$i --platform=all --sbom=none .' $A/$N/many",
        ),
    ],
    lacks: &[
        Pull,
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
    note: "Over HTTPS it reads the certificate from `SSL_CERT_FILE` alone: `eval \"$(kdk env)\"`.",
};
