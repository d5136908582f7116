# Licence: Apache-2.0, as Frond.
"""Spack recipe for Frond."""

from spack.package import *


class Frond(MakefilePackage):
    """A hierarchical workload manager that a user starts for themselves: on a
    laptop, or on the nodes of an allocation of another scheduler."""

    homepage = "https://github.com/frond-hpc/frond"
    git = "https://github.com/frond-hpc/frond.git"

    license("Apache-2.0")

    version("main", branch="main")

    depends_on("c", type="build")
    depends_on("go@1.26:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("gmake", type="build")
    depends_on("libzmq@4.2:+libsodium")

    def build(self, spec, prefix):
        make("build")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        install("bin/frond", prefix.bin)
