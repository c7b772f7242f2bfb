defmodule MyAppWeb.Pow.ControllerCallbacks do
  @moduledoc "What Pow's extensions do; and a new password logs the user out everywhere."

  alias Pow.Extension.Phoenix.ControllerCallbacks
  alias PowResetPassword.Phoenix.ResetPasswordController

  defdelegate before_process(controller, action, results, config), to: ControllerCallbacks

  def before_respond(controller, action, results, config) do
    with {ResetPasswordController, :update, {:ok, user, _conn}} <- {controller, action, results} do
      MyApp.Sessions.log_out_everywhere(user)
    end

    ControllerCallbacks.before_respond(controller, action, results, config)
  end
end
