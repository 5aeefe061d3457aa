#!/bin/sh
# Started in the background at the end of boot: put your own commands here.
