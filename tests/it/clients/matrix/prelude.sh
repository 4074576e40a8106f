# What the lines of the table are run with. Given are TOP, the namespace's
# directory; A, the registry's address; T, a token; and STEP, the step's name.

# The one who compares is skopeo, with a login of its own.
LOOK="--tls-verify=false --creds x:$T"
FROM="--src-tls-verify=false --src-creds x:$T"

# Prints the digest of the manifest that a reference leads to.
stored() { skopeo inspect --raw $LOOK "docker://$1" | sha256sum | cut -d' ' -f1; }

# Succeeds where references lead to one manifest.
same() {
  local first other
  first=$(stored "$1") other=$(stored "$2")
  [ "$first" = "$other" ] || { echo "$1 is $first, $2 is $other"; return 1; }
}

# Succeeds where all that a reference leads to is there, and is what its digest says.
whole() {
  rm -rf "$TOP/whole"
  skopeo copy -q --all $FROM "docker://$1" "dir:$TOP/whole"
}

# Runs a line ten times at once, with i from 0 to 9; then the repository has
# ten tags, and each is whole.
ten() {
  local i pid pids= tags tag
  for i in 0 1 2 3 4 5 6 7 8 9; do
    (eval "$1") &
    pids="$pids $!"
  done
  for pid in $pids; do wait "$pid"; done
  tags=$(skopeo list-tags $LOOK "docker://$2" | jq -r '.Tags[]')
  [ "$(echo "$tags" | wc -l)" -ge 10 ] || { echo "of ten tags there are:" $tags; return 1; }
  for tag in $tags; do whole "$2:$tag"; done
}

# Succeeds where a client that says which digest it pushed and the registry agree.
pushed() {
  local there
  there=sha256:$(stored "$1")
  [ "$2" = "$there" ] || { echo "the client says $2, the registry has $there"; return 1; }
}

# Runs a line that pushes `noise` to $N/struck, and kills the registry in the middle of it:
# once data of an upload have arrived it is stopped as it stands, so that the
# upload cannot end before. It is started again at once. Ends as the line does.
struck() {
  local registry push data=
  registry=$(kdk --root "$TOP/root" status --json | jq '.[] | select(.name == "registry") | .pid')
  rm -f "$TOP/interrupted"
  # What an earlier try left would pass for this one's.
  find "$TOP/root/registry" -path "*/$N/struck/_uploads" -prune -exec rm -r {} +
  (eval "$1") &
  push=$!
  while [ -z "$data" ]; do
    if ! kill -0 $push 2>/dev/null; then
      echo "the push ended before it was interrupted"
      return 1
    fi
    data=$(find "$TOP/root/registry" -path "*/$N/struck/_uploads/*" -name data -size +4M 2>/dev/null | head -n 1)
  done
  kill -STOP "$registry"
  if ! [ -e "$data" ] || ! kill -0 $push; then
    kill -CONT "$registry"
    echo "the upload ended before it was interrupted"
    return 1
  fi
  basename "$(dirname "$data")" > "$TOP/interrupted"
  kill -KILL "$registry"
  while kill -0 "$registry" 2>/dev/null; do sleep 0.01; done
  # Not after the pause that the supervisor makes, which grows with each kill.
  kdk --root "$TOP/root" -q start registry
  wait $push
}

# The same for a client that may give an interrupted push up, and is then called again.
struck_again() {
  struck "$1" && return
  [ -e "$TOP/interrupted" ] || return 1
  eval "$1"
}

# Succeeds where the upload that was interrupted went on, after the registry
# had started again, from where it stood.
resumed() {
  local upload
  upload=$(cat "$TOP/interrupted")
  awk -v upload="$upload" '
    /listening on/ { found = 0 }
    /"method":"PATCH"/ && index($0, upload) { found = 1 }
    END { exit !found }' "$TOP/root/log/registry/current" || {
    echo "the upload $upload did not go on"
    return 1
  }
}
