"""`nki.language.NKIObject`: the base of a kernel's objects of configuration."""

from __future__ import annotations

from dataclasses import MISSING


class _Lenient(type):
    """Lets dataclasses be made as kernels make them: a required field that nobody passes is None, and keywords may set
    class attributes."""

    def __call__(cls, *args: object, **kwargs: object) -> object:
        fields = getattr(cls, "__dataclass_fields__", None)
        init = cls.__dict__.get("__init__")
        if fields is None or init is None or init.__code__.co_filename != "<string>":
            return super().__call__(*args, **kwargs)
        names = [n for n, f in fields.items() if f.init and f._field_type.name == "_FIELD"]
        given = {*names[: len(args)], *kwargs}
        for n in names:
            f = fields[n]
            if n not in given and f.default is MISSING and f.default_factory is MISSING:
                kwargs[n] = None
        extra = {k: kwargs.pop(k) for k in list(kwargs) if k not in fields and hasattr(cls, k)}
        made = super().__call__(*args, **kwargs)
        for k, v in extra.items():
            object.__setattr__(made, k, v)
        return made


class NKIObject(metaclass=_Lenient):
    """Base of configuration objects: fields by keyword, or in the order of the annotations."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        names = [n for c in reversed(type(self).__mro__) for n in c.__dict__.get("__annotations__", {})]
        for n, v in zip(names, args, strict=False):
            setattr(self, n, v)
        for n, v in kwargs.items():
            setattr(self, n, v)
        for n in names:
            if not hasattr(self, n):
                setattr(self, n, None)
