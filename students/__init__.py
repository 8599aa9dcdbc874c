"""Students: what learns, and reads."""

from students.charset import Charset, Reading
from students.errors import UserError
from students.student import Student, StudentConfig

__all__ = ["Charset", "Reading", "Student", "StudentConfig", "UserError"]
