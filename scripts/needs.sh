# What builds and servers need of the system, installed where it is missing. To be sourced.

need_cc() {
  command -v cc >/dev/null && return
  echo "no C compiler found, which the embedded store needs; installing gcc"
  apt-get update -qq && apt-get install -y -qq gcc libc6-dev
}

need_protoc() {
  command -v protoc >/dev/null && return
  echo "no protoc found, which the etcd client needs to build; installing protobuf-compiler"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends protobuf-compiler libprotobuf-dev
}

need_java() {
  command -v java >/dev/null && command -v python3 >/dev/null && return
  echo "no Java or no Python found, which ZooKeeper and its clients run on; installing openjdk-17-jre-headless and python3"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless python3
}
