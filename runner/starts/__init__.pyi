from runner.starts.base import LoadedStart as LoadedStart
from runner.starts.base import Start as Start
from runner.starts.base import StartContext as StartContext
from runner.starts.continued import Continued as Continued
from runner.starts.from_teacher import FromTeacher as FromTeacher
from runner.starts.only import Only as Only
from runner.starts.published import Published as Published
from runner.starts.run import Run as Run
