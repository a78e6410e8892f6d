"""A CA made for the test and what it issues, by the `openssl` command; good for a day."""

import pathlib
import subprocess


class Authority:
    """A CA whose files are in a folder of their own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        self.openssl("req", "-x509", *self.new_key("ca"), "-subj", "/CN=a CA for tests", "-days", "1", "-out", self.ca)

    def issue(self, common_name, names):
        """The files of a certificate and its key; names such as `DNS:localhost` or `IP:127.0.0.1`."""
        place = common_name.replace(" ", "-")
        certificate, request = self.folder / f"{place}.pem", self.folder / f"{place}.csr"
        extensions = self.folder / f"{place}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        self.openssl("req", *self.new_key(place), "-subj", f"/CN={common_name}", "-out", request)
        signing = ["-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", "1"]
        self.openssl("x509", "-req", "-in", request, *signing, "-extfile", extensions, "-out", certificate)
        return certificate, self.folder / f"{place}.key"

    def new_key(self, name):
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        return [*kind, "-nodes", "-keyout", self.folder / f"{name}.key"]

    @staticmethod
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"
