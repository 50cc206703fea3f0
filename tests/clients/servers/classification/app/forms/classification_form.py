"""The seed's form, without its library: two fields of a choice each."""

import types

from flask import request


class ClassificationForm:
    def __init__(self):
        self.image = types.SimpleNamespace(data=request.form.get("image"))
        self.model = types.SimpleNamespace(data=request.form.get("model"))

    def validate_on_submit(self):
        return request.method == "POST" and bool(self.image.data and self.model.data)
