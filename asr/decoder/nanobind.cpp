// nanobind's runtime, compiled from the sources that its package ships.
#include <nb_combined.cpp>
